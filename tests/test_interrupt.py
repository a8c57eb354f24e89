"""Ctrl-C ends a command with one line and exit code 130, whenever it comes, and keeps what was finished."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time

from commands import lapsbench, plain_environment, running

RUN = "replay --engine ideal --limit 1000 --repeats 300 --policy fcfs --policy las --out run"
"""600 cells: more than a quick machine replays in what any of these waits."""
SAID = "error: interrupted; with --out, finished cells are kept and the same command goes on\n"
HEARING = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
print("here", flush=True)
from lapsbench.cli import main
main()
"""
"""Hear Ctrl-C even where the tests run in the background; what Python itself does before that is not ours."""


def interrupted(line, cwd, after_s, times=1, **environment):
    """Run a command, press Ctrl-C so long after its first line; return how it ended."""
    command = [sys.executable, "-c", HEARING, *line.split()]
    with running(command, cwd, plain_environment() | environment) as started:
        started.stdout.readline()
        time.sleep(after_s)
        for _ in range(times):
            started.send_signal(signal.SIGINT)
        _, err = started.communicate(timeout=60)
    return started.returncode, err


def test_twenty_moments_of_the_first_second_and_a_half(tmp_path):
    draw = random.Random(1)
    moments = [0.02 + draw.uniform(0, 0.2) for _ in range(8)] + [draw.uniform(0.2, 1.5) for _ in range(12)]
    for number, after_s in enumerate(moments):
        if number % 2 == 0:  # the next goes on with this one's cells
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
        assert interrupted(RUN, tmp_path, after_s) == (130, SAID), after_s
    lapsbench(RUN, tmp_path).fine()
    lapsbench("report run", tmp_path).fine()


DROPPED = """
import os, signal, sys
from lapsbench.cli.interrupt import listen

class Future:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
listen()
future = Future()
del future
sys.exit("went on")
"""


def test_where_python_drops_what_is_raised():
    done = subprocess.run([sys.executable, "-c", DROPPED], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, SAID)


def test_while_numba_compiles(tmp_path):
    for after_s in (2, 5):
        assert interrupted(f"{RUN} -q", tmp_path, after_s, NUMBA_CACHE_DIR=str(tmp_path)) == (130, SAID), after_s


def test_a_second_press_does_not_wait_and_prints_no_traceback(tmp_path):
    code, err = interrupted(f"{RUN} --jobs 2", tmp_path, 1.2, times=5)
    assert (code, err.replace(SAID, "", 1)) == (130, "")


def test_who_was_told_to_ignore_it_does(tmp_path):
    line = f"{sys.executable} -c 'import time; from lapsbench.cli import main; time.sleep(0.5); main()' policies"
    ignoring = f"trap '' INT; {line} & sleep 0.3; kill -INT $!; wait $!"
    done = subprocess.run(["sh", "-c", ignoring], check=False, capture_output=True, env=plain_environment())
    assert done.returncode == 0
    assert b"fcfs" in done.stdout

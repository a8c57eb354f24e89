"""A stand-in for a real engine: a child that serves in the reference's virtual time, and goes wrong as it is told.

`python fake_engine.py` is such a child; `python fake_engine.py execute ...` is lapsbench with such children. FAULT says
what goes wrong, and under which policy: `killed:srpt`.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from lapsbench.execution import child
from lapsbench.execution.wanted import Prepared
from lapsbench.policies.registry import find
from lapsbench.serving.log import Row, StepLog
from lapsbench.sim.reference.vllm import Vllm

CONTEXT_TOKENS = 8192


class Logged(Vllm):
    """The reference, which writes a step log as the real engine does."""

    def attach(self, log, fault):
        self.file, self.fault, self.gone = log, fault, []
        return self

    def arrive(self, request):
        super().arrive(request)
        rejected = request in self.finished
        view = self.finished[request][0].view if rejected else self.live[-1].view
        self.file.arrived(request, str(request), vars(view))
        if rejected:
            self.file.left(request, "rejected", self.now_s)

    def compose(self):
        before = {job.request: job.preemptions for job in self.live}
        step = super().compose()
        out = {job.request for job in self.live if job.preemptions > before[job.request]}
        parts = [Row(p.job.request, p.tokens, p.cached, p.drafts, p.job.request in out) for p in step.parts]
        lost = out - {part.job.request for part in step.parts}
        self.file.composed(step.number, self.now_s, [*parts, *(Row(request, preempted=True) for request in lost)])
        return step

    def leave(self, job):
        super().leave(job)
        self.gone.append(job.request)

    def run_step(self, step):
        super().run_step(step)
        self.file.ran(step.ended_s, {part.job.request: part.emitted for part in step.parts})
        for request in self.gone:
            self.file.left(request, "finished", self.now_s)
        self.gone = []
        if len(self.finished) > 3:
            FAULTS[self.fault]()


def fill_disk():
    raise OSError(errno.ENOSPC, "No space left on device")


def crash():
    raise RuntimeError("the model said something odd\nand more of it")


FAULTS = {
    "": lambda: None,
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "full": fill_disk,
    "crash": crash,
    "exit": lambda: os._exit(7),
    "slow": lambda: time.sleep(0.05),
}


def prepare(asked):
    """Find every model but one."""
    if "missing" in asked.wanted.target:
        raise child.LapsbenchError("the folder has no config.json", where=asked.wanted.target, hint="another")
    return Prepared(asked.wanted.target, asked.wanted.draft, CONTEXT_TOKENS, "0.32.0", "cpu")


def serve(asked):
    """Serve in virtual time."""
    kind, _, policy = os.environ.get("FAULT", "").partition(":")
    fault = kind if policy in ("", asked.name) else ""
    told = {"engine": "vllm", "rules_version": "0.32.0", "policy": asked.name, "on_preempt": asked.engine.on_preempt}
    log = StepLog(asked.log, told)
    Logged(asked.work, asked.engine, find(asked.policy), asked.costs, asked.setup).attach(log, fault).run()
    log.close()


@contextmanager
def fake_engine(fault=""):
    """Have such children serve, and vLLM count as installed."""
    from unittest import mock  # what children do not need: a third of their start

    from lapsbench.execution import executor, process

    command = (sys.executable, str(Path(__file__).resolve()))
    here = mock.patch.object(executor, "check_installed")
    with mock.patch.object(process, "CHILD", command), here, mock.patch.dict(os.environ, FAULT=fault):
        yield


def main():
    """Be the child, or the parent."""
    if sys.argv[1:]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from lapsbench.cli import main as lapsbench

        with fake_engine(os.environ.get("FAULT", "")):
            lapsbench()
    child.prepare, child.serve = prepare, serve
    child.main()


if __name__ == "__main__":
    main()

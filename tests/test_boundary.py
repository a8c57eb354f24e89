"""The oracle boundary: a policy that peeks does not compile, and is told why, however it came in."""

from __future__ import annotations

import pytest
from strategies import Scenario, constant, workload

from lapsbench.core import JOB, SYSTEM, Engine
from lapsbench.errors import LapsbenchError
from lapsbench.policies.binding import compiled
from lapsbench.policies.registry import find, policy

PEEKS = {  # what it does: (the function, what the message must name)
    "true length": ("def peek(job):\n    return job.output_tokens\n", "job.output_tokens"),
    "future acceptance": ("def peek(job):\n    return job.accept_runs[job.emitted_tokens]\n", "job.accept_runs"),
    "all requests": ("def peek(job, system):\n    return system.workload.output_tokens[0]\n", "system.workload"),
    "writing progress": ("def peek(job):\n    job.emitted_tokens = 0\n    return 0.0\n", "job.emitted_tokens"),
    "adding to progress": ("def peek(job):\n    job.emitted_tokens += 1\n    return 0.0\n", "job.emitted_tokens"),
    "setting the clock": ("def peek(job, system):\n    system.now_s = 0.0\n    return 0.0\n", "system.now_s"),
}
OBJECT = "from lapsbench.policies.registry import policy\n\n\n@policy(preemptive=False)\n"
TINY = Scenario(workload([0.0], [2]), Engine(1, 0), constant())
everyone = pytest.mark.parametrize(("source", "field"), PEEKS.values(), ids=PEEKS)


def refusal(found):
    """Return what a replay under this policy says."""
    with pytest.raises(LapsbenchError) as refused:
        TINY.replay(found)
    return str(refused.value)


def check(message, field):
    verb = "writes" if field in ("job.emitted_tokens", "system.now_s") else "reads"
    assert f"{verb} {field}" in message
    if verb == "reads":
        assert "no policy may see: true lengths and future acceptance" in message
    else:
        assert "job.scratch" in message


@everyone
def test_a_function_in_a_file_that_peeks_does_not_compile(tmp_path, source, field):
    path = tmp_path / "mine.py"
    path.write_text(source)
    message = refusal(find(f"{path}:peek"))
    check(message, field)
    assert str(path) in message


@everyone
def test_a_policy_object_in_a_file_that_peeks_does_not_compile(tmp_path, source, field):
    path = tmp_path / "mine.py"
    path.write_text(OBJECT + source)
    check(refusal(find(f"{path}:peek")), field)


@everyone
def test_an_entry_point_that_peeks_does_not_compile(install, source, field):
    install(source, peeking="peek")
    check(refusal(find("peeking")), field)


@everyone
def test_a_policy_object_behind_an_entry_point_that_peeks_does_not_compile(install, source, field):
    install(OBJECT + source, peeking="peek")
    check(refusal(find("peeking")), field)


def test_a_policy_object_made_in_python_that_peeks_does_not_compile():
    @policy(preemptive=True)
    def peek(job):
        return job.output_tokens

    check(refusal(peek), "job.output_tokens")


def test_the_message_says_which_line_and_which_fields_there_are(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def peek(job):\n    guess = job.predicted_tokens\n    return guess + job.output_tokens\n")
    message = refusal(find(f"{path}:peek"))
    assert "line 3" in message
    assert "predicted_tokens" in message.partition("try one of")[2]


@pytest.mark.parametrize(
    "body",
    ["j = job\n    return j.output_tokens", 'return getattr(job, "output_tokens")'],
    ids=["by another name", "by getattr"],
)
def test_a_detour_to_a_hidden_field_does_not_compile_either(tmp_path, body):
    path = tmp_path / "mine.py"
    path.write_text(f"def peek(job):\n    {body}\n")
    assert "output_tokens" in refusal(find(f"{path}:peek"))


HOLES = {
    "by another name": "def peek(job):\n    j = job\n    j.emitted_tokens = 0\n    return 0.0\n",
    "by item": "def peek(job):\n    job['emitted_tokens'] = 0\n    return 0.0\n",
    "by a helper": (
        "from numba import njit\n\n\n@njit\ndef helper(j):\n    j.emitted_tokens = 0\n    return 0.0\n\n\n"
        "def peek(job):\n    return helper(job)\n"
    ),
}


@pytest.mark.parametrize("source", HOLES.values(), ids=HOLES)
def test_writing_by_a_detour_does_not_compile_either(tmp_path, source):
    """What a policy sees is what the simulator counts with: the type of it cannot be written to."""
    path = tmp_path / "mine.py"
    path.write_text(source)
    message = refusal(find(f"{path}:peek"))
    assert "cannot write job.emitted_tokens" in message
    assert "job.scratch" in message


def test_writing_into_what_was_learnt_changes_nothing(tmp_path):
    """A replay has a copy of its own."""
    path = tmp_path / "mine.py"
    path.write_text("def peek(job, system):\n    system.table[0] = 1.0\n    return 0.0\n")
    scene = Scenario(workload([0.0, 0.0, 0.1], [5, 3, 4]), Engine(1, 0), constant())
    path.with_name("clean.py").write_text("def peek(job):\n    return 0.0\n")
    clean = scene.replay(find(f"{path.with_name('clean.py')}:peek"))
    assert scene.replay(find(f"{path}:peek")).finished_s.tolist() == clean.finished_s.tolist()


def test_no_field_a_policy_sees_holds_a_true_length_or_what_will_be_accepted():
    names = {*JOB.names, *SYSTEM.names}
    assert not {name for name in names if "output" in name or "accept_run" in name or "true" in name}


def test_true_rounds_are_told_to_oracles_only(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def nosy(job):\n    return job.predicted_rounds\n")
    assert "NaN" in refusal(find(f"{path}:nosy"))
    assert TINY.replay(find("oracle-srpt-rounds")).rounds.tolist() == [1]


def test_a_policy_that_returns_nan_is_told_for_which_request(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def broken(job):\n    return float('nan') if job.emitted_tokens > 0 else 1.0\n")
    message = refusal(find(f"{path}:broken"))
    assert "returned NaN for request 0" in message
    assert "broken" in message


@pytest.mark.parametrize("place", ["40 + job.rounds", "-41 - job.rounds"])
@pytest.mark.parametrize("use", ["job.scratch[{}] = 7.0\n    return 0.0", "return job.scratch[{}]"])
def test_a_policy_that_leaves_its_scratch_is_stopped(tmp_path, place, use):
    path = tmp_path / "mine.py"
    path.write_text(f"def far(job):\n    {use.format(place)}\n")
    message = refusal(find(f"{path}:far"))
    assert "policy 'far'" in message
    assert "job.scratch has 40 places" in message


def test_a_policy_that_does_not_peek_compiles():
    assert compiled(find("fcfs")) is not None

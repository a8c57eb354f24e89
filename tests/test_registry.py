"""Finding policies: by name, in a file, behind an entry point; setting their parameters; what goes wrong on the way."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from strategies import Scenario, constant, differences, workload

from lapsbench.core import CALIBRATION, PARAMETERS, Engine
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.policies.registry import builtin, find, names, policy, spec_of

WORK = Scenario(workload([0, 0, 0], [3, 1, 2]), Engine(1, 0), constant())
LONGEST_FIRST = "def longest_first(job, weight=1.0):\n    return -weight * job.predicted_tokens\n"


def finished(found):
    return WORK.replay(found).finished_s.tolist()


# built in ----------------------------------------------------------------------------------------------------------


def test_every_policy_of_the_design_is_built_in_and_oracles_come_last():
    assert list(builtin()) == [
        "boost",
        "fcfs",
        "gittins",
        "laps-sd",
        "las",
        "least-work",
        "ltr",
        "mlfq",
        "priority",
        "sjf",
        "srpt",
        "srpt-accept",
        "srpt-work",
        "trail",
        "vtc",
        "work",
        "work-patient",
        "oracle-own-mean",
        "oracle-srpt-rounds",
        "oracle-srpt-tokens",
        "oracle-work-rounds",
        "oracle-work-tokens",
    ]


@pytest.mark.parametrize("found", builtin().values(), ids=lambda found: found.name)
def test_every_built_in_policy_says_what_it_does_where_from_and_what_it_knows(found):
    assert found.summary.endswith((".", ":")) or len(found.summary) > 20
    assert found.source
    assert found.knows


def test_oracles_wear_an_asterisk():
    assert find("oracle-srpt-tokens").label == "oracle-srpt-tokens*"
    assert find("srpt").label == "srpt"


def test_only_the_policies_that_learn_ask_for_a_calibration_sample():
    assert {name for name, found in builtin().items() if CALIBRATION in found.knows} == {
        "boost",
        "gittins",
        "laps-sd",
        "least-work",
        "srpt-accept",
        "srpt-work",
        "work",
        "work-patient",
        "oracle-own-mean",
        "oracle-work-rounds",
        "oracle-work-tokens",
    }


@pytest.mark.parametrize("spec", ["laps_sd", "laps-sd", " laps-sd ", "oracle-srpt-tokens*", "oracle_srpt_tokens"])
def test_names_may_be_written_with_underscores_spaces_around_or_the_asterisk(spec):
    assert find(spec).name in ("laps-sd", "oracle-srpt-tokens")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError) as refused:
        find("fifo")
    assert "unknown policy 'fifo'" in str(refused.value)
    assert all(name in str(refused.value) for name in builtin())
    assert refused.value.exit_code == 2


# parameters --------------------------------------------------------------------------------------------------------


def test_parameters_have_their_defaults_until_they_are_set():
    assert dict(find("trail").parameters) == {"c": 0.8}
    assert dict(find("trail:c=0.3").parameters) == {"c": 0.3}


def test_several_parameters_are_set_at_once():
    found = find("laps-sd:queues=4, eps=0.1,window=16")
    assert (found.parameters["queues"], found.parameters["eps"], found.parameters["window"]) == (4.0, 0.1, 16.0)
    assert found.parameters["growth"] == 2.0


def test_setting_a_parameter_leaves_the_policy_itself_alone():
    find("trail:c=0.3")
    assert find("trail").parameters["c"] == 0.8


def test_a_parameter_may_be_infinite():
    assert find("laps-sd:eps=inf").parameters["eps"] == math.inf


def test_the_letters_of_the_papers_are_understood():
    found = find("laps-sd:W=4,K=3,q0=0.5,k0=2")
    expected = {"window": 4.0, "queues": 3.0, "quantum_s": 0.5, "prior_rounds": 2.0}
    assert {name: found.parameters[name] for name in expected} == expected
    assert find("trail:C=0.1").parameters["c"] == 0.1
    assert find("mlfq:q0=0.02").parameters["quantum_s"] == 0.02
    assert find("srpt-accept:k0=2").parameters["prior_rounds"] == 2.0


def test_a_parameter_changes_the_schedule():
    work = Scenario(workload([0, 4], [6, 1]), Engine(1, 0), constant())
    assert differences(work.replay(find("trail:c=0.1")), work.replay(find("trail:c=1")))


@pytest.mark.parametrize("spec", ["trail:d=1", "trail:c", "fcfs:c=1", "laps-sd:eps=0.1,ep=2"])
def test_an_unknown_parameter_is_named_with_those_there_are(spec):
    with pytest.raises(UsageError) as refused:
        find(spec)
    assert "has no parameter" in str(refused.value)
    if spec.startswith("trail"):
        assert "c=0.8" in str(refused.value)


@pytest.mark.parametrize("value", ["much", "", "nan", "0.1.2", "1 2"])
def test_a_parameter_that_is_not_a_number_is_quoted(value):
    with pytest.raises(UsageError, match="is not a number"):
        find(f"trail:c={value}")


@pytest.mark.parametrize("spec", ["fcfs", "trail:c=0.3", "laps-sd:window=16,eps=inf", "vtc:w_out=3"])
def test_a_spec_survives_the_way_there_and_back(spec):
    assert spec_of(find(spec)) == spec
    assert dict(find(spec_of(find(spec))).parameters) == dict(find(spec).parameters)


def test_a_default_that_is_set_again_is_no_change():
    assert spec_of(find("trail:c=0.8")) == "trail"


# FILE.py:FUNCTION --------------------------------------------------------------------------------------------------


def test_a_function_in_a_file_is_a_preemptive_policy(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(LONGEST_FIRST)
    found = find(f"{path}:longest_first")
    assert (found.name, found.preemptive, dict(found.parameters)) == ("longest-first", True, {"weight": 1.0})
    assert finished(found) == [3.0, 6.0, 5.0]  # A, then A or C ... longest predicted total first


def test_a_function_in_a_file_takes_parameters(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(LONGEST_FIRST)
    assert finished(find(f"{path}:longest_first:weight=-1")) == finished(find("sjf"))


def test_a_policy_object_in_a_file_keeps_what_it_says_of_itself(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from lapsbench.policies.registry import policy\n\n\n@policy(preemptive=False, source='us')\n" + LONGEST_FIRST
    )
    found = find(f"{path}:longest_first")
    assert (found.preemptive, found.source) == (False, "us")


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(UsageError, match="no such file"):
        find("nowhere.py:f")


def test_a_function_that_is_not_there_is_named_with_those_that_are(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(LONGEST_FIRST)
    with pytest.raises(UsageError, match="longest_first"):
        find(f"{path}:shortest_first")


@pytest.mark.parametrize("source", ["def f(job:\n", "import nowhere_to_be_found\n", "1 / 0\n"])
def test_a_file_that_does_not_import_is_told_as_one_line(tmp_path, source):
    path = tmp_path / "mine.py"
    path.write_text(source)
    with pytest.raises(LapsbenchError, match="does not import") as refused:
        find(f"{path}:f")
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_something_that_is_no_function_is_refused(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("f = 3\n")
    with pytest.raises(LapsbenchError, match="int"):
        find(f"{path}:f")


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("def f(request):\n    return 0.0\n", "no argument named job"),
        ("def f(job, weight):\n    return 0.0\n", "no numeric default"),
        ("def f(job, weight='much'):\n    return 0.0\n", "no numeric default"),
        ("def f(job, fast=True):\n    return 0.0\n", "no numeric default"),
        (f"def f(job, {', '.join(f'p{i}=1' for i in range(PARAMETERS + 1))}):\n    return 0.0\n", "parameters"),
    ],
)
def test_a_function_of_the_wrong_shape_is_refused(tmp_path, definition, message):
    path = tmp_path / "mine.py"
    path.write_text(definition)
    with pytest.raises(LapsbenchError, match=message):
        find(f"{path}:f")


@pytest.mark.parametrize(
    "body",
    ["    return 'a'\n", "    return (1.0, 2.0)\n", "    job.scratch[0] = 1.0\n", "    return open('x').read()\n"],
    ids=["text", "pair", "nothing", "file"],
)
def test_a_function_that_does_not_return_a_number_or_does_more_does_not_compile(tmp_path, body):
    path = tmp_path / "mine.py"
    path.write_text(f"def f(job):\n{body}")
    with pytest.raises(LapsbenchError, match="does not compile") as refused:
        WORK.replay(find(f"{path}:f"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("body", ["    return job.emitted_tokens\n", "    return job.rounds > 3\n", "    return 1\n"])
def test_whole_numbers_and_truth_values_are_ranks_too(tmp_path, body):
    path = tmp_path / "mine.py"
    path.write_text(f"def f(job):\n{body}")
    assert max(finished(find(f"{path}:f"))) == 6.0


# entry points ------------------------------------------------------------------------------------------------------


def test_a_policy_behind_an_entry_point_is_found_by_its_name(install):
    install(LONGEST_FIRST, their_longest="longest_first")
    assert "their-longest" in names()
    found = find("their-longest:weight=2")
    assert (found.name, found.parameters["weight"]) == ("their-longest", 2.0)
    assert finished(found) == [3.0, 6.0, 5.0]


def test_a_policy_object_behind_an_entry_point_keeps_what_it_says_of_itself(install):
    source = "from lapsbench.policies.registry import policy\n\n\n@policy(preemptive=False, source='them')\n"
    install(source + LONGEST_FIRST, theirs="longest_first")
    assert (find("theirs").preemptive, find("theirs").source) == (False, "them")


def test_a_built_in_policy_cannot_be_replaced_by_an_entry_point(install):
    install(LONGEST_FIRST, fcfs="longest_first")
    assert find("fcfs").rank.__module__ == "lapsbench.policies.fcfs"


def test_an_entry_point_that_does_not_import_is_told_as_one_line(install):
    install("import nowhere_to_be_found\n", broken="f")
    with pytest.raises(LapsbenchError, match="'broken': does not import"):
        find("broken")


def test_an_unknown_name_lists_entry_points_too(install):
    install(LONGEST_FIRST, theirs="longest_first")
    with pytest.raises(UsageError, match="theirs"):
        find("nobody")


# compiling ---------------------------------------------------------------------------------------------------------


def test_a_policy_made_in_python_runs_as_a_built_in_one_does():
    @policy(preemptive=False)
    def last_come(job):
        return -job.arrival_s

    work = Scenario(workload([0, 1, 2], [3, 1, 1]), Engine(1, 0), constant())
    assert work.replay(last_come).finished_s.tolist() == [3.0, 5.0, 4.0]


def test_parameters_are_read_when_it_runs_so_a_new_value_needs_no_new_compilation(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(LONGEST_FIRST)
    for weight in (1, -1, 3):
        finished(find(f"{path}:longest_first:weight={weight}"))
    assert len(list(tmp_path.glob("__pycache__/*.nbc"))) == 1


def test_a_compiled_policy_is_cached_beside_its_file_for_other_processes(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(LONGEST_FIRST)
    script = (
        "from lapsbench.policies.binding import compiled; from lapsbench.policies.registry import find;"
        f"print(sum(compiled(find({str(path) + ':longest_first'!r})).held.stats.cache_hits.values()))"
    )
    hits = [
        int(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)
        for _ in range(2)
    ]
    assert hits == [0, 1]


def test_a_compiled_helper_of_a_policy_is_cached_too(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from numba import njit\n\n\n@njit(cache=True)\ndef twice(x):\n    return 2 * x\n\n\n"
        "def doubled(job):\n    return twice(job.predicted_tokens)\n"
    )
    script = (
        "from lapsbench.policies.binding import compiled; from lapsbench.policies.registry import find;"
        f"compiled(find({str(path) + ':doubled'!r}))"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)

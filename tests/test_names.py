"""Whose name is whose: policies of one name in two files, parameters of a user, fields that are not there."""

from __future__ import annotations

import json

import pytest
from commands import lapsbench

SMALL = "--limit 250 --repeats 1 --max-batch 8 --load 0.9 -q"
BY_ARRIVAL = "def mine(job):\n    return job.arrival_s\n"
BY_LENGTH = "def mine(job, k0=1.0, W=0.0):\n    return k0 * job.predicted_tokens + W\n"


@pytest.fixture
def folder(tmp_path):
    """A folder with two files, each with a function `mine`."""
    (tmp_path / "a.py").write_text(BY_ARRIVAL)
    (tmp_path / "b.py").write_text(BY_LENGTH + "\n\ndef srpt(job):\n    return -job.predicted_tokens\n")
    return tmp_path


def replayed(folder, flags):
    """Return the mean JCT of every policy, by the name that JSON gives it."""
    done = lapsbench(f"replay {flags} {SMALL} --json -", folder).fine()
    return {cell["policy"]: cell["metrics"]["jct_mean_s"] for cell in json.loads(done.out)["cells"]}


# functions of one name -----------------------------------------------------------------------------------------------


def test_functions_of_one_name_in_two_files_are_two_policies(folder):
    found = replayed(folder, "--policy fcfs --policy a.py:mine --policy b.py:mine --policy b.py:mine:k0=-1")
    assert list(found) == ["fcfs", "a.py:mine", "b.py:mine", "b.py:mine:k0=-1"]
    assert found["a.py:mine"] == found["fcfs"]
    assert len(set(found.values())) == 3


def test_a_function_that_is_the_only_one_of_its_name_keeps_it(folder):
    assert list(replayed(folder, "--policy b.py:mine --policy b.py:mine:k0=2 --policy fcfs")) == [
        "mine",
        "mine:k0=2",
        "fcfs",
    ]


def test_files_of_one_name_are_told_apart_by_their_folders(folder):
    for room, source in (("x", BY_ARRIVAL), ("y", BY_LENGTH)):
        (folder / room).mkdir()
        (folder / room / "p.py").write_text(source)
    assert list(replayed(folder, "--policy x/p.py:mine --policy y/p.py:mine")) == ["x/p.py:mine", "y/p.py:mine"]


def test_a_function_with_the_name_of_a_built_in_policy_goes_by_its_file(folder):
    found = replayed(folder, "--policy srpt --policy b.py:srpt")
    assert list(found) == ["srpt", "b.py:srpt"]
    assert found["srpt"] < found["b.py:srpt"]
    assert list(replayed(folder, "--policy b.py:srpt")) == ["b.py:srpt"]


def test_one_file_by_two_paths_is_one_policy(folder):
    done = lapsbench(f"replay --policy a.py:mine --policy ./a.py:mine {SMALL}", folder)
    assert (done.code, done.err) == (2, "error: --policy: mine is given twice; try each policy once\n")


def test_table_run_folder_report_and_compare_call_them_alike(folder):
    flags = f"--policy a.py:mine --policy b.py:mine --baseline b.py:mine {SMALL}"
    table = lapsbench(f"replay {flags} --out run", folder).fine().out
    assert "\na.py:mine " in table
    assert "\nb.py:mine " in table
    assert "vs b.py:mine" in table
    assert lapsbench("report run --html page.html --markdown - -q", folder).fine().out.count("| b.py:mine |") == 1
    assert "b.py:mine" in (folder / "page.html").read_text()
    assert lapsbench("report run -q", folder).fine().out == table
    compared = lapsbench("compare run run --fail-if 'b.py:mine: jct_mean > +5%' -q", folder).fine().out
    assert "a.py:mine" in compared
    assert "passed     b.py:mine: jct_mean > +5%" in compared


@pytest.mark.parametrize("typed", ["a.py:mine", "./a.py:mine"])
def test_the_baseline_is_found_however_its_file_is_typed(folder, typed):
    done = lapsbench(f"replay --policy b.py:mine --policy a.py:mine --baseline {typed} {SMALL}", folder)
    assert "vs a.py:mine" in done.fine().out


def test_a_baseline_that_could_be_either_is_asked_about(folder):
    done = lapsbench(f"replay --policy a.py:mine --policy b.py:mine --baseline mine {SMALL}", folder)
    assert (done.code, done.err) == (
        2,
        "error: --baseline: mine does not say in which file; try one of: a.py:mine, b.py:mine\n",
    )


def test_a_name_is_found_as_it_is_shown(folder):
    (folder / "c.py").write_text("def by_age(job):\n    return job.arrival_s\n")
    assert list(replayed(folder, "--policy c.py:by-age")) == ["by-age"]


# parameters ----------------------------------------------------------------------------------------------------------


def test_a_parameter_with_the_letter_of_a_paper_is_the_users_own(folder):
    found = replayed(folder, "--policy b.py:mine:k0=-1,W=3 --policy b.py:mine")
    assert list(found) == ["mine:k0=-1,W=3", "mine"]
    assert len(set(found.values())) == 2


@pytest.mark.parametrize("letter", ["W", "K", "C", "q0", "k0"])
def test_every_letter_of_a_paper_is_free_for_users(folder, letter):
    (folder / "c.py").write_text(f"def own(job, {letter}=1.0):\n    return {letter} * job.arrival_s\n")
    assert list(replayed(folder, f"--policy c.py:own:{letter}=2")) == [f"own:{letter}=2"]


def test_a_letter_means_something_only_where_the_policy_has_it(folder):
    done = lapsbench(f"replay --policy trail:K=3 {SMALL}", folder)
    assert (done.code, done.err) == (2, "error: --policy: trail has no parameter 'K=3'; try one of: c=0.8\n")


def test_the_letters_of_a_policy_are_told(tmp_path):
    assert "K for queues, q0 for quantum_s, W for window, k0 for" in lapsbench("policies laps-sd", tmp_path).out


# fields --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("noun", "name", "there"), [("system", "queued", "now_s"), ("job", "waited_s", "arrival_s")])
def test_an_unknown_field_is_answered_with_those_there_are(tmp_path, noun, name, there):
    (tmp_path / "c.py").write_text(f"def own(job, system):\n    return {noun}.{name}\n")
    done = lapsbench(f"replay --policy c.py:own {SMALL}", tmp_path)
    assert done.code == 1
    assert f"c.py), line 2: reads {noun}.{name}, which is not there; try one of: " in done.err
    assert there in done.err.partition("try one of")[2]
    assert "true lengths" not in done.err


@pytest.mark.parametrize("name", ["output_tokens", "accept_runs", "remaining_tokens", "acceptance_length"])
def test_a_field_that_would_tell_the_future_is_answered_with_why_not(tmp_path, name):
    (tmp_path / "c.py").write_text(f"def own(job):\n    return job.{name}\n")
    done = lapsbench(f"replay --policy c.py:own {SMALL}", tmp_path)
    assert f"reads job.{name}, which no policy may see: true lengths and future acceptance are not there" in done.err

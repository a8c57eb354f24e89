"""What the plug-in refuses, in one line, and what it takes for a prediction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from vllm import SamplingParams
from vllm.v1.request import Request, RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

import lapsbench.vllm
from lapsbench.core import Engine
from lapsbench.errors import LapsbenchError
from lapsbench.policies.predictors import MEAN_TOKENS
from lapsbench.vllm import config, options

PROFILE = "h100-llama3.1-8b-eagle3"


def made(given, kind="Scheduler", engine=None, vllm_policy="fcfs"):
    """Return the scheduler that a server with these options makes."""
    engine = engine or Engine(4, 0, rules="vllm", kv_tokens=4096, max_model_len=1024, prefix_cache=False)
    settings = config.configured(engine, engine.kv_blocks, policy=vllm_policy)
    settings.additional_config = {"lapsbench": given}
    return getattr(lapsbench.vllm, kind)(
        vllm_config=settings,
        kv_cache_config=config.memory(engine, engine.kv_blocks),
        structured_output_manager=StructuredOutputManager(settings),
        block_size=engine.block_tokens,
        log_stats=False,
    )


REFUSED = [
    ({"polciy": "srpt"}, "no option 'polciy'; try one of: policy"),
    ({"policy": 3}, "policy is 3"),
    ({"policy": "sprt"}, "unknown policy 'sprt'"),
    ({"policy": "srpt:eps=1"}, "srpt has no parameter 'eps=1'"),
    ({"policy": "mlfq:levels=many"}, "mlfq"),
    ({"policy": "oracle-srpt-tokens"}, "knows what no server knows"),
    ({"policy": "laps-sd"}, 'learns from a calibration sample; try "profile"'),
    ({"policy": "laps-sd", "profile": "nowhere"}, "nowhere: no such profile"),
    ({"policy": "laps-sd", "profile": PROFILE, "predict": "crystal"}, "no predictor is called 'crystal'"),
    ({"policy": "work-patient", "profile": PROFILE}, "a server does not know it; try work-patient:patience_s=SECONDS"),
    ({"predict": "oracle"}, "predict means nothing without a profile"),
    ({"on_preempt": "swap"}, "on_preempt is 'swap'; try recompute or keep"),
    ({"log": "no/such/folder/log"}, "log no/such/folder/log: cannot write"),
    ({"policy": "gone.py:f"}, "no such file 'gone.py'"),
    ({"policy": "bad.py:f"}, "does not import: ZeroDivisionError"),
    ({"policy": "bad.py"}, "names a file, but no function in it"),
    ({"policy": "peek.py:f"}, "reads job.output_tokens, which no policy may see"),
    ("srpt", "is 'srpt', not an object"),
]


@pytest.mark.parametrize(("given", "told"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_served_is_refused_in_one_line(tmp_path, monkeypatch, given, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.py").write_text("1 / 0\n")
    (tmp_path / "peek.py").write_text("def f(job):\n    return job.output_tokens\n")
    with pytest.raises(LapsbenchError) as refused:
        made(given)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "--policy" not in str(refused.value).partition(": ")[0]


@pytest.mark.parametrize(("kind", "scheduling"), [("Scheduler", "async"), ("AsyncScheduler", "sync")])
def test_the_scheduler_of_the_other_mode_is_refused(kind, scheduling):
    other = {"Scheduler": "AsyncScheduler", "AsyncScheduler": "Scheduler"}[kind]
    engine = Engine(4, 0, rules="vllm", kv_tokens=4096, max_model_len=1024, scheduling=scheduling)
    with pytest.raises(LapsbenchError, match=rf"try --scheduler-cls lapsbench\.vllm\.{other}"):
        made({}, kind, engine)


def test_vllms_own_order_beside_ours_is_refused():
    with pytest.raises(LapsbenchError, match="--scheduling-policy priority"):
        made({}, vllm_policy="priority")


def test_another_minor_version_is_refused_unless_told(monkeypatch):
    monkeypatch.setattr(options, "VERSION", "0.31")
    with pytest.raises(LapsbenchError, match=r"made for 0\.31"):
        made({})
    assert made({"any_version": True}).chosen.name == "srpt"


def arrived(scheduler, name, prompt_tokens=16, max_tokens=50, **extra):
    """Hand over a request; return what the policy sees of it."""
    params = SamplingParams(max_tokens=max_tokens, extra_args=extra or None)
    scheduler.add_request(Request(name, [1] * prompt_tokens, params, None, arrival_time=1.0))
    return {field: column[scheduler.board.place[name]] for field, column in scheduler.board.view.items()}


def test_predictions_come_with_the_request_or_from_a_class_or_not_at_all():
    scheduler = made({"policy": "srpt"})
    assert arrived(scheduler, "told", predicted_tokens=300)["predicted_tokens"] == 300
    assert arrived(scheduler, "again", predicted_tokens="300")["predicted_class"] == 3
    assert arrived(scheduler, "class", predicted_class=2)["predicted_tokens"] == MEAN_TOKENS[2]
    assert scheduler.counters.unpredicted == 0
    for number, nonsense in enumerate(["many", math.nan, math.inf, -3, [1], None]):
        assert arrived(scheduler, f"{number}", predicted_tokens=nonsense)["predicted_tokens"] == 50
    assert arrived(scheduler, "none", predicted_class=9)["predicted_tokens"] == 50
    assert scheduler.counters.unpredicted == 7


def test_a_profile_gives_table_means_and_prefill_times():
    engine = Engine(4, 3, rules="vllm", kv_tokens=4096, max_model_len=1024, prefix_cache=False)
    scheduler = made({"policy": "gittins", "profile": PROFILE}, engine=engine)
    assert scheduler.board.system["table"].any()
    assert scheduler.board.system["mean_round_s"][0] > 0
    short, long = arrived(scheduler, "short", 10), arrived(scheduler, "long", 500)
    assert 0 < short["prefill_s"] < long["prefill_s"]
    assert short["predicted_tokens"] == long["predicted_tokens"] == scheduler.learnt.mean_tokens
    classes = [arrived(scheduler, f"{c}", predicted_class=c)["predicted_tokens"] for c in range(5)]
    assert np.all(np.diff(classes) > 0)


def test_a_profile_says_what_taking_a_request_out_costs_and_which_categories_there_are():
    costs = {}
    for cached in (False, True):
        engine = Engine(4, 3, rules="vllm", kv_tokens=4096, max_model_len=1024, prefix_cache=cached)
        scheduler = made({"policy": "srpt-work", "profile": PROFILE}, engine=engine)
        costs[cached] = scheduler.learnt.resume_s
        names = scheduler.learnt.categories
        assert arrived(scheduler, "told", category=names[1])["category"] == 1
        assert arrived(scheduler, "other", category="no such")["category"] == -1
        assert arrived(scheduler, "none")["category"] == -1
    assert costs[False][0] == 0 < costs[False][17] < costs[False][1000]
    assert costs[True][1000] < costs[False][1000]  # full blocks will be found again
    keep = {"policy": "srpt-work", "profile": PROFILE, "on_preempt": "keep"}
    assert not made(keep, engine=engine).learnt.resume_s.any()


def test_a_policy_that_returns_nan_ranks_last_and_the_server_goes_on(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def halves(job):\n    return 0.0 * job.predicted_tokens / (job.predicted_tokens - 2.0)\n")
    scheduler = made({"policy": f"{path}:halves"})
    arrived(scheduler, "bad", predicted_tokens=2)
    arrived(scheduler, "good", predicted_tokens=3)
    names = [scheduler.board.request[place].request_id for place in scheduler.board.ranks(0.0, 0)]
    assert names == ["good", "bad"]


def test_importing_the_package_takes_no_vllm():
    import subprocess
    import sys

    line = "import sys, lapsbench.vllm; assert 'vllm' not in sys.modules; assert lapsbench.vllm.VERSION"
    subprocess.run([sys.executable, "-c", line], check=True)


def test_places_are_used_again_and_room_grows():
    scheduler = made({"policy": "srpt"})
    room = len(scheduler.board.jobs)
    for number in range(3 * room):
        arrived(scheduler, f"{number}")
        if number >= 10:
            scheduler.finish_requests(f"{number - 10}", RequestStatus.FINISHED_ABORTED)
    assert len(scheduler.board.jobs) == room
    assert len(scheduler.jobs) == len(scheduler.board.place) == 10
    for number in range(3 * room, 5 * room):
        arrived(scheduler, f"{number}", predicted_tokens=5 * room - number)
    order = scheduler.board.ranks(0.0, 0)
    assert len(order) == 2 * room + 10
    assert np.all(np.diff(scheduler.board.rank[order]) >= 0)

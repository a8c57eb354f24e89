"""vLLM's OpenAI server with the plug-in: it serves, it refuses to start, and a rough crowd leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import random
import re
import shlex
import subprocess

import aiohttp
import pytest
import tiny
from server import ROOT, serving, start

PROFILE = "h100-llama3.1-8b-eagle3"
FILE = """
from lapsbench.policies.registry import policy


@policy(preemptive=True)
def shortest_prompt(job, weight=1.0):
    return weight * job.prompt_tokens
"""
CLEAN = ('lapsbench:live_requests{engine="0"} 0.0', 'lapsbench:held_blocks{engine="0"} 0.0')


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.save(tmp_path_factory.mktemp("model"), hidden_size=128)


@pytest.mark.parametrize(
    "options",
    [
        {"policy": "srpt", "on_preempt": "keep"},
        {"policy": "laps-sd:eps=0.1", "profile": PROFILE},
        {"policy": "mine.py:shortest_prompt:weight=2"},
    ],
    ids=lambda options: options["policy"],
)
def test_a_server_with_the_plug_in_serves_counts_and_logs(tmp_path, model, options):
    (tmp_path / "mine.py").write_text(FILE)
    with serving(tmp_path, model, {**options, "log": "steps.jsonl"}) as server:
        told = {"predicted_tokens": 9, "client": "me"}
        answers = [server.complete(max_tokens=9, vllm_xargs=told), server.complete(max_tokens=5)]
        metrics = server.get("/metrics")
    assert [answer["usage"]["completion_tokens"] for answer in answers] == [9, 5]
    counted = dict(re.findall(r"^lapsbench:(\w+)_total\{engine=\"0\"\} (\S+)", metrics, re.MULTILINE))
    assert float(counted["unpredicted"]) == 1
    assert float(counted["ranked"]) >= 2  # a rank that cannot change is asked once
    assert float(counted["rank_seconds"]) > 0
    assert server.ours[0].startswith(f"policy {options['policy'].removeprefix('mine.py:').replace('_', '-')}")
    assert all(line in metrics for line in CLEAN), metrics
    assert (tmp_path / "steps.jsonl").read_text().startswith('{"schema":"lapsbench.steps/1"')


def test_the_page_serves_as_printed(tmp_path, model):
    page = (ROOT / "docs" / "vllm.md").read_text()
    _, serve, ask = re.search(r"```sh\n(.*?)```", page, re.DOTALL)[1].replace("\\\n", "").strip().split("\n\n")
    python, *flags = [word.replace("MODEL", model) for word in shlex.split(serve)]
    assert (python, flags[:2]) == ("python", ["-m", "vllm.entrypoints.openai.api_server"])
    options = json.loads(flags[flags.index("--additional-config") + 1])["lapsbench"]
    assert flags[flags.index("--scheduler-cls") + 1] == "lapsbench.vllm.Scheduler"
    with serving(tmp_path, model, options, "--served-model-name", model) as server:
        asked = shlex.split(ask.replace("MODEL", model).replace("http://", "").replace("localhost:8000", server.url))
        answer = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)
        counted = server.get("/metrics")
    assert answer["usage"]["completion_tokens"] <= 9
    assert 'lapsbench:ranked_total{engine="0"}' in counted
    assert 'lapsbench:unpredicted_total{engine="0"}' not in counted


def test_a_broken_policy_is_one_line_and_no_server(tmp_path, model):
    (tmp_path / "mine.py").write_text("def peek(job):\n    return job.output_tokens\n")
    server = start(tmp_path, model, {"policy": "mine.py:peek"})
    assert server.process.wait(300) != 0
    assert len(server.ours) == 1, server.said
    assert "reads job.output_tokens, which no policy may see" in server.ours[0]
    assert "line 2" in server.ours[0]


def test_a_rough_crowd_leaves_nothing_behind(tmp_path, model, pytestconfig):
    count = pytestconfig.getoption("--soak")
    with serving(tmp_path, model, {"policy": "mlfq", "on_preempt": "keep"}) as server:
        ends = asyncio.run(crowd(server.url, count))
        asyncio.run(asyncio.sleep(2))
        last = server.complete(max_tokens=7)
        metrics = server.get("/metrics")
    assert sum(ends.values()) == count
    assert min(ends.values()) > count // 40, ends
    assert last["usage"]["completion_tokens"] == 7
    assert all(line in metrics for line in CLEAN), metrics


async def crowd(url, count, at_once=24):
    """Send so many requests, of all kinds; return how they ended. What is not served in time raises."""
    draw, gate = random.Random(4), asyncio.Semaphore(at_once)
    ends = {"served": 0, "left": 0, "timed out": 0, "refused": 0}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)) as session:

        async def one(kind, body, patience_s):
            async with gate:
                ends[await KINDS[kind](session, url + "/v1/completions", body, patience_s)] += 1

        await asyncio.gather(*(one(*ask(draw)) for _ in range(count)))
    return ends


def ask(draw):
    """Return what a client does, what it asks, and how long it waits."""
    kind = draw.choices(["stays", "leaves", "hurries", "exceeds"], [75, 10, 8, 7])[0]
    told = draw.choice([{}, {"predicted_tokens": 20}, {"predicted_class": 3}, {"predicted_tokens": "many"}])
    size = 400 if kind == "exceeds" else draw.randint(1, 120)
    body = {
        "model": "m",
        "prompt": "".join(draw.choices("abcdefgh", k=size)),
        "max_tokens": draw.randint(1, 100),
        "temperature": 0,
        "ignore_eos": True,
        "vllm_xargs": told,
        "stream": kind == "leaves",
    }
    return kind, body, draw.uniform(0.005, 0.1)


async def stays(session, url, body, patience_s):
    async with session.post(url, json=body, timeout=aiohttp.ClientTimeout(300)) as answer:
        assert answer.status == 200, await answer.text()
        usage = (await answer.json())["usage"]
        assert usage["completion_tokens"] == body["max_tokens"]
        return "served"


async def leaves(session, url, body, patience_s):
    async with session.post(url, json=body, timeout=aiohttp.ClientTimeout(300)) as answer:
        await answer.content.readline()
        answer.close()
        return "left"


async def hurries(session, url, body, patience_s):
    try:
        async with session.post(url, json=body, timeout=aiohttp.ClientTimeout(patience_s)) as answer:
            await answer.read()
            return "served"
    except TimeoutError:
        return "timed out"


async def exceeds(session, url, body, patience_s):
    async with session.post(url, json=body, timeout=aiohttp.ClientTimeout(300)) as answer:
        assert answer.status == 400
        return "refused"


KINDS = {"stays": stays, "leaves": leaves, "hurries": hurries, "exceeds": exceeds}

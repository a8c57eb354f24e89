"""`lapsbench traces`: list, describe, convert and make from the command line; get against a server on loopback."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from commands import AZURE, lapsbench

from lapsbench.core import Trace
from lapsbench.traces import catalog, open_trace
from lapsbench.traces.description import describe, to_json
from lapsbench.traces.fetch import fetch
from lapsbench.traces.make import Order, make
from lapsbench.traces.over_time import over_time
from lapsbench.traces.processes import arrivals

CONTENT = b"TIMESTAMP,ContextTokens,GeneratedTokens\n" + b"".join(
    b"2023-11-16 18:%02d:%02d.0000000,%d,7\n" % (i // 60, i % 60, i + 1) for i in range(3000)
)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one file; `answers` are what it does to the requests that come, in turn: a number breaks off there."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.answers, self.asked = CONTENT, [], []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.asked.append((self.path, wanted))
        answer = server.answers.pop(0) if server.answers else None
        if answer == "missing":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if wanted and start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:answer] if isinstance(answer, int) else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def entry(server, tmp_path, monkeypatch):
    """A catalogue of one trace, at the server, and a cache of its own."""
    url = f"http://127.0.0.1:{server.server_port}/data/small.csv"
    made = catalog.Entry("small", url, SHA256, 3000, len(CONTENT), "CC-BY-4.0", "for tests")
    monkeypatch.setenv("LAPSBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LAPSBENCH_MIRROR", raising=False)
    known = {**catalog.CATALOG, "small": made}
    monkeypatch.setattr("lapsbench.traces.catalog.CATALOG", known)
    monkeypatch.setattr("lapsbench.traces.open.CATALOG", known)
    return made


# --- get


def test_get_fetches_and_then_the_name_opens(entry, server, tmp_path):
    assert "lapsbench traces get small" in lapsbench("traces describe small", tmp_path).err
    done = lapsbench("traces get small", tmp_path).fine()
    assert done.out.strip() == str(tmp_path / "cache" / "small.csv")
    assert "CC-BY-4.0" in done.err
    assert (tmp_path / "cache" / "small.csv").read_bytes() == CONTENT
    assert len(open_trace("small")) == 3000
    lapsbench("traces get small", tmp_path).fine()
    assert len(server.asked) == 1, "what is here is not fetched again"


def test_get_goes_on_where_it_broke_off(entry, server, tmp_path):
    server.answers = [50_000]
    broken = lapsbench("traces get small", tmp_path)
    assert broken.code == 1
    assert "what is here is kept" in broken.err
    assert broken.err.count("\n") == 1
    assert not (tmp_path / "cache" / "small.csv").exists()
    kept = (tmp_path / "cache" / "small.csv.part").stat().st_size
    assert 0 < kept <= 50_000
    lapsbench("traces get small", tmp_path).fine()
    assert server.asked[1][1] == f"bytes={kept}-"
    assert (tmp_path / "cache" / "small.csv").read_bytes() == CONTENT


def test_get_finishes_a_download_that_was_only_not_moved(entry, server, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "small.csv.part").write_bytes(CONTENT)
    lapsbench("traces get small", tmp_path).fine()
    assert (tmp_path / "cache" / "small.csv").read_bytes() == CONTENT


def test_get_refuses_a_corrupted_download_and_keeps_none_of_it(entry, server, tmp_path):
    server.content = CONTENT.replace(b",7\n", b",8\n", 1)
    done = lapsbench("traces get small", tmp_path)
    assert done.code == 1
    assert done.out == ""
    assert f"its sha256 is not {SHA256}" in done.err
    assert list((tmp_path / "cache").iterdir()) == []
    server.content = CONTENT
    lapsbench("traces get small", tmp_path).fine()


def test_get_takes_the_mirror(entry, server, tmp_path, monkeypatch):
    monkeypatch.setenv("LAPSBENCH_MIRROR", f"http://127.0.0.1:{server.server_port}/mirror/")
    done = lapsbench("traces get small", tmp_path).fine()
    assert server.asked == [("/mirror/small.csv", None)]
    assert "/mirror/small.csv" in done.err


@pytest.mark.parametrize("mirror", ["nowhere", "ftp://127.0.0.1/x", "http://127.0.0.1:9"])
def test_get_says_so_where_the_mirror_is_none(entry, tmp_path, monkeypatch, mirror):
    monkeypatch.setenv("LAPSBENCH_MIRROR", mirror)
    done = lapsbench("traces get small", tmp_path)
    assert (done.code, done.out) == (1, "")
    assert "cannot be fetched" in done.err
    assert f"{mirror}/small.csv" in done.err


def test_get_fetches_anew_what_was_damaged_here(entry, server, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "small.csv").write_bytes(CONTENT[:-9])
    lapsbench("traces get small", tmp_path).fine()
    assert (tmp_path / "cache" / "small.csv").read_bytes() == CONTENT


def test_get_without_a_known_hash_tells_the_one_it_got(entry, server, tmp_path):
    path = fetch(replace(entry, sha256=None), lambda *_: None)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("answer", ["missing", 0])
def test_get_says_what_the_server_did(entry, server, tmp_path, answer):
    server.answers = [answer]
    done = lapsbench("traces get small", tmp_path)
    assert done.code == 1
    assert "cannot be fetched" in done.err
    assert ("HTTP 404" in done.err) == (answer == "missing")
    assert done.err.count("\n") == 1


def test_get_of_an_unknown_name_lists_the_known_ones(tmp_path):
    done = lapsbench("traces get burstgpt", tmp_path)
    assert done.code == 2
    assert "burstgpt-1" in done.err


def test_the_catalogue_says_where_what_and_under_which_licence():
    assert {"azure-conv-2023", "azure-conv-2024", "burstgpt-1", "burstgpt-2", "burstgpt-3"} <= set(catalog.CATALOG)
    for name, entry in catalog.CATALOG.items():
        assert entry.name == name
        assert entry.url.startswith("https://")
        assert entry.licence
        assert entry.sha256 is None or (len(entry.sha256) == 64 and int(entry.sha256, 16))


# --- list, describe


def test_list_names_shipped_and_public_traces(tmp_path):
    done = lapsbench("traces list", tmp_path).fine()
    assert "chat" in done.out
    assert "burstgpt-3" in done.out
    rows = json.loads(lapsbench("traces list --json -", tmp_path).fine().out)["traces"]
    assert [row["rows"] for row in rows if row["name"] in ("chat", "burstgpt-1")] == [5000, 1_429_737]


def test_describe_measures_the_azure_trace(tmp_path, public):
    done = lapsbench(f"traces describe {public(AZURE)} --json -", tmp_path).fine()
    found = json.loads(done.out)
    assert found["requests"] == 19_366
    assert found["rate_rps"] == pytest.approx(5.53, abs=0.01)
    assert found["gap_cv"] == pytest.approx(1.094, abs=0.001)
    assert found["dispersion"] == pytest.approx({"1s": 1.4, "10s": 3.9, "60s": 16}, rel=0.05)
    assert found["prompt_quantiles"]["p50"] == 1020
    text = lapsbench(f"traces describe {public(AZURE)}", tmp_path).fine()
    assert text.err == ""
    for word in ("19,366 requests", "inter-arrival CV  1.094", "heaviest minute", "requests/s over time"):
        assert word in text.out


def test_describe_reports_what_reading_took_on_stderr(tmp_path):
    (tmp_path / "t.csv").write_text("ts,in,out\n9,1,1\n3,1,0\n\n3,0,4\n4,2,2\n4,2,2\n")
    line = "traces describe t.csv --columns arrival=ts,prompt=in,output=out"
    done = lapsbench(line, tmp_path).fine()
    assert done.err.splitlines() == [
        "1 blank line: skipped",
        "1 row with no prompt tokens: dropped",
        "1 row with no output tokens (failed): dropped",
        "2 rows were out of order: sorted",
        "1 row arrives with the one before: in the order of the file",
    ]
    assert lapsbench(f"{line} --quiet", tmp_path).err == ""
    assert "kept with 1 output token" in lapsbench(f"{line} --failed keep", tmp_path).err


@pytest.mark.parametrize("times", [[0.0], [5.0, 5.0, 5.0], [0.0, 1e9], [0.0, 0.5, 1.0]])
def test_describe_survives_traces_without_a_rate(times):
    ones = np.ones(len(times), dtype=np.int32)
    found = to_json(describe(Trace("t", np.array(times), ones, ones)))
    assert json.dumps(found, allow_nan=False)


def test_dispersion_is_one_for_poisson_and_none_for_two_windows():
    trace = make(Order(rate_rps=5, requests=60_000, arrivals="poisson"))
    assert over_time(trace).dispersion[:2] == pytest.approx([1, 1], abs=0.15)
    assert over_time(Trace("t", np.array([0.0, 1.5]), *[np.ones(2, dtype=np.int32)] * 2)).dispersion == (None,) * 3


def test_the_heaviest_minute_is_the_heaviest():
    times = np.array([0.0, 100, 130, 159.9, 160, 300])
    found = over_time(Trace("t", times, *[np.ones(6, dtype=np.int32)] * 2))
    assert (found.heaviest_start_s, found.heaviest_requests) == (100, 3)


# --- convert


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_convert_keeps_every_request(tmp_path, suffix):
    done = lapsbench(f"traces convert chat out.{suffix} --limit 200", tmp_path).fine()
    assert done.out == f"out.{suffix}\n"
    before, after = open_trace("chat", limit=200), open_trace(str(tmp_path / f"out.{suffix}"))
    for name in ("arrival_s", "prompt_tokens", "output_tokens", "client_id"):
        assert getattr(before, name).tolist() == getattr(after, name).tolist()


def test_convert_to_an_unknown_format_is_a_usage_error(tmp_path):
    done = lapsbench("traces convert chat out.xlsx", tmp_path)
    assert done.code == 2
    assert "cannot write .xlsx" in done.err


# --- make


def cv(times):
    gaps = np.diff(times)
    return gaps.std() / gaps.mean()


@pytest.mark.parametrize("spec", ["poisson", "gamma:cv=3", "on-off:on=5,off=10", "diurnal:period=60,depth=0.9"])
def test_arrivals_meet_their_rate_and_start_at_zero(spec):
    times = arrivals(spec, 4000, 12.0, 3)
    assert times[0] == 0
    assert (np.diff(times) >= 0).all()
    assert 4000 / times[-1] == pytest.approx(12, rel=1e-6)
    assert np.array_equal(times, arrivals(spec, 4000, 12.0, 3))
    assert not np.array_equal(times, arrivals(spec, 4000, 12.0, 4))


def test_arrivals_are_as_bursty_as_asked_for():
    assert cv(arrivals("poisson", 50_000, 10, 0)) == pytest.approx(1, abs=0.03)
    assert cv(arrivals("gamma:cv=3", 50_000, 10, 0)) == pytest.approx(3, rel=0.1)
    assert cv(arrivals("gamma:cv=0", 500, 10, 0)) == pytest.approx(0, abs=1e-4)
    silence = np.diff(arrivals("on-off:on=10,off=20", 20_000, 10, 0))
    assert silence[silence > 2].sum() / silence.sum() == pytest.approx(2 / 3, abs=0.12)


def test_a_diurnal_rate_swings_from_its_trough():
    times = arrivals("diurnal:period=1000,depth=0.8", 100_000, 100, 0)
    counts = np.histogram(times, bins=10, range=(0, 1000))[0]
    assert counts.argmin() in (0, 9)
    assert counts.argmax() in (4, 5)
    assert counts.max() / counts.min() == pytest.approx(7, rel=0.2)  # bins average over (1 + .8) / (1 - .8) = 9


def test_make_states_chat_in_bursts_in_one_line(tmp_path):
    line = "traces make mine.parquet --rate 12 --arrivals gamma:cv=3 --requests 2000 --clients 5,1,1"
    lapsbench(line, tmp_path).fine()
    trace = open_trace(str(tmp_path / "mine.parquet"))
    assert trace.rate_rps == pytest.approx(12, rel=1e-6)
    assert np.median(trace.prompt_tokens) == pytest.approx(1020, rel=0.01)
    shares = np.unique(trace.client_id, return_counts=True)[1] / 2000
    assert shares == pytest.approx([5 / 7, 1 / 7, 1 / 7], abs=0.04)
    first = (tmp_path / "mine.parquet").read_bytes()
    lapsbench(f"{line} --force", tmp_path).fine()
    assert (tmp_path / "mine.parquet").read_bytes() == first


def test_make_resamples_whole_rows_of_a_trace(tmp_path):
    rows = [(i, 10 * i + 10, 10 * i + 11) for i in range(20)]
    text = "arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{t},{p},{n}\n" for t, p, n in rows)
    (tmp_path / "own.csv").write_text(text)
    made = make(Order(like=str(tmp_path / "own.csv"), requests=500))
    assert (made.output_tokens - made.prompt_tokens == 1).all()
    assert set(made.prompt_tokens) == {p for _, p, _ in rows}


def test_make_draws_lengths_as_told(tmp_path):
    made = make(Order(requests=20_000, prompt="lognormal:median=800,sigma=1", output="quantiles:10,100,1000"))
    assert np.median(made.prompt_tokens) == pytest.approx(800, rel=0.03)
    assert np.log(made.prompt_tokens).std() == pytest.approx(1, rel=0.03)
    assert (made.output_tokens.min(), made.output_tokens.max()) == (10, pytest.approx(1000, abs=5))
    assert np.median(made.output_tokens) == pytest.approx(100, rel=0.06)


def test_make_takes_a_duration_instead_of_a_number():
    assert len(make(Order(rate_rps=2, duration_s=300))) == 600


@pytest.mark.parametrize(
    "flags",
    [
        "--rate 0",
        "--rate nan",
        "--requests 0",
        "--requests 5 --duration 5",
        "--arrivals weibull",
        "--arrivals gamma:cv=x",
        "--arrivals gamma:shape=2",
        "--arrivals on-off:on=0",
        "--prompt lognormal:sigma=1",
        "--prompt quantiles:5",
        "--output quantiles:5,4",
        "--clients 0",
        "--clients a,b",
        "--seed -1",
        "--like nobody",
    ],
)
def test_an_order_that_means_nothing_is_a_usage_error(tmp_path, flags):
    done = lapsbench(f"traces make out.csv {flags}", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "; try " in done.err
    assert not (tmp_path / "out.csv").exists()

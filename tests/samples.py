"""Small files of our own making in the formats of the public recordings: every reader can be tried without those.

Requests are those of the shipped, generated traces; acceptance is drawn here, from a seed. A file is called like the
public one it stands in for, so that one test reads either.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from functools import cache

import numpy as np

from lapsbench.traces import open_trace

QUESTIONS = 24
CATEGORIES = ("writing", "math_reasoning", "qa")
LENGTHS = {"eagle": 6, "sps-68m": 21, "rest": 11, "dflash": 8}
"""Tokens that a round of each draft emits at most, its bonus included."""


# --- traces: the first requests of the shipped ones


def azure_2023(folder, name="AzureLLMInferenceTrace_conv.csv", requests=2000):
    """Write as Azure did in 2023: CRLF, seven digits, no zone, no newline at the end."""
    trace = open_trace("code" if "code" in name else "chat", limit=requests)
    began = datetime(2023, 11, 16, 18, 15, 46, 680590)  # noqa: DTZ001 Azure's have no zone
    rows = [f"{_moment(began, at)}0,{p},{n}" for at, p, n in _rows(trace)]
    return _write(folder / name, "\r\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows])), trace


def azure_2024(folder, requests=200):
    """Write as Azure did in 2024: the same header, LF, six digits and a zone."""
    trace = open_trace("code", limit=requests)
    began = datetime(2024, 5, 12, 8, 47, 44, 22580)  # noqa: DTZ001 the zone is written
    rows = [f"{_moment(began, at)}+00:00,{p},{n}\n" for at, p, n in _rows(trace)]
    return _write(folder / "azure.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(rows)), trace


def azure_ms(folder, requests=200):
    """Write as the slice in milliseconds."""
    trace = open_trace("code", limit=requests)
    header = "request_id,arrival_ms,output_tokens,split,prompt_tokens,source_timestamp,source_row\n"
    rows = [f"ours-{i},{at * 1e3:.3f},{n},test,{p},,{i}\n" for i, (at, p, n) in enumerate(_rows(trace))]
    return _write(folder / "azure_llm_code_v3_1024.csv", header + "".join(rows)), trace


def mooncake(folder, requests=300):
    """Write as Mooncake does: milliseconds, arrivals gathered every 3 s, hashes of the prompt's blocks."""
    trace = open_trace("chat", limit=requests)
    rows = [
        {"timestamp": int(at // 3 * 3000), "input_length": p, "output_length": n, "hash_ids": list(range(p // 512 + 1))}
        for at, p, n in _rows(trace)
    ]
    return _write_lines(folder / "mooncake_conversation_trace.jsonl", rows), trace


def _rows(trace):
    columns = (trace.arrival_s - trace.arrival_s[0], trace.prompt_tokens, trace.output_tokens)
    return zip(*(column.tolist() for column in columns), strict=True)


def _moment(began, seconds):
    return (began + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S.%f")


# --- acceptance: rounds drawn here


@cache
def turns(draft):
    """Return, question by question, the tokens of every round of every turn; some questions have two turns."""
    random = np.random.default_rng(len(draft))
    most = LENGTHS[draft]
    made = []
    for question in range(QUESTIONS):
        rate = random.uniform(0.4, 0.75)
        sizes = random.integers(20, 90, 1 + (question < QUESTIONS // 3))
        made.append([np.minimum(random.geometric(1 - rate, size), most).tolist() for size in sizes])
    made[0][0][0] = most  # someone accepts every draft
    return made


def mean(draft):
    """Return the mean tokens of a round, over all of them."""
    return float(np.mean([tokens for question in turns(draft) for turn in question for tokens in turn]))


def acceptance(folder, name):
    """Write the file that stands in for a public one of this name; return its path."""
    made = _formats()[name.partition("_")[0]]
    return made(folder, name)


def _formats():
    return {"specbench": _spec_bench, "mtbench": _rest, "specdecodebench": _spec_decode_bench, "dflash": _dflash}


def _spec_bench(folder, name):
    draft = "eagle" if "eagle" in name else "sps-68m"
    return _write_lines(folder / name, [_question(i, made, draft) for i, made in enumerate(turns(draft))])


def _question(number, made, draft):
    choice = {
        "index": 0,
        "turns": ["ours"] * len(made),
        "decoding_steps": [len(turn) for turn in made],
        "new_tokens": [sum(turn) for turn in made],
        "wall_time": [1.0] * len(made),
        "accept_lengths": [tokens for turn in made for tokens in turn],
    }
    category = CATEGORIES[number % len(CATEGORIES)]
    return {"question_id": 81 + number, "category": category, "model_id": f"ours-{draft}", "choices": [choice]}


def _rest(folder, name):
    """Write a first round of each turn without the token that prefill gives, and `idxs` one less than the rounds."""
    rows = []
    for number, made in enumerate(turns("rest")):
        row = _question(number, made, "rest")
        choice = row["choices"][0]
        del choice["accept_lengths"]
        choice["idxs"] = [steps - 1 for steps in choice.pop("decoding_steps")]
        choice["accept_lengths:"] = [tokens - (at == 0) for turn in made for at, tokens in enumerate(turn)]
        rows.append(row)
    return _write_lines(folder / name, rows)


def _spec_decode_bench(folder, name):
    """Write at every position what a round from there would emit; before any token is out that is always 1."""
    random = np.random.default_rng(len(name))
    rows = []
    for number in range(QUESTIONS):
        tokens = int(random.integers(60, 300))
        row = {"id": str(134 + number), "prompt_token_ids": [7] * (103 + number), "generated_token_ids": [7] * tokens}
        for draft, rate in (("eagle", 0.65), ("ngram", 0.2)):
            size = tokens - number % 3  # often shorter than the answer
            row[f"acc_{draft}"] = {"acc_len": [1, *_runs(random.random(size - 1) < rate)]}
        rows.append(row)
    return _write_lines(folder / name, rows)


def _runs(right, most=15):
    """Return one more than the consecutive right drafts from every position on."""
    found, run = [], 0
    for each in right[::-1]:
        run = run + 1 if each else 0
        found.append(min(run, most) + 1)
    return found[::-1]


def _dflash(folder, name):
    """Write a record per round, and beside it one per answer; return the one of the name asked for."""
    rounds, samples = [], []
    for uid, made in enumerate(turns("dflash")):
        turn = [tokens for part in made for tokens in part]
        place = 57 + uid
        for at, tokens in enumerate(turn):
            more = {"start_pos": place, "proposal_len": 7, "accepted_draft": tokens - 1, "committed": tokens}
            rounds.append({"uid": uid, "round_idx": at, **more})
            place += tokens
        totals = {"n_input_tokens": 57 + uid, "n_output_tokens": sum(turn), "rounds": len(turn)}
        samples.append({"uid": uid, "dataset": CATEGORIES[uid % len(CATEGORIES)], **totals})
    stem = name.partition(".")[0]
    _write_lines(folder / f"{stem}.rounds.jsonl", rounds)
    _write_lines(folder / f"{stem}.samples.jsonl", samples)
    return folder / name


def _write_lines(path, rows):
    return _write(path, "".join(json.dumps(row) + "\n" for row in rows))


def _write(path, text):
    path.write_bytes(text.encode())
    return path

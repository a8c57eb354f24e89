"""docs/vllm.md is true where it takes no vLLM: its replay runs as printed, and it names the options there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from commands import lapsbench

from lapsbench.vllm import VERSION

PAGE = (Path(__file__).parents[1] / "docs" / "vllm.md").read_text()
BLOCK = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL)[1]


def test_from_an_answer_to_the_flag_takes_ten_lines_at_most():
    assert len(BLOCK.splitlines()) <= 10


def test_the_replay_runs_as_printed_and_ranks_the_policy_that_is_served(tmp_path):
    rows = [f"{number / 50},{10 + number % 40},{5 + number * 7 % 60}" for number in range(300)]
    (tmp_path / "my.csv").write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]) + "\n")
    command = BLOCK.splitlines()[0].removeprefix("lapsbench ")
    done = lapsbench(command, tmp_path)
    done.fine()
    served = re.search(r'"policy": "([^"]+)"', BLOCK)[1]
    assert served in shlex.split(command)
    assert served.partition(":")[0] in done.out


def test_the_page_names_every_option_and_the_version():
    options = (Path(__file__).parents[1] / "lapsbench" / "vllm" / "options.py").read_text()
    keys = re.findall(r'^    "(\w+)": (?:str|bool),', options, re.MULTILINE)
    table = PAGE.partition("## Options")[2].partition("## Predictions")[0]
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)))) == set(keys)
    assert f"vLLM {VERSION}" in PAGE

"""Prompts: files read, files refused, and what the model gets to see."""

from __future__ import annotations

import json
from collections import Counter

import pytest

pytest.importorskip("torch", reason="the profiler is an extra: pip install '.[profile]'")

import tiny

from lapsbench.errors import LapsbenchError
from lapsbench.profile.prompts import Prompt, encode, read_prompts


@pytest.fixture
def write(tmp_path):
    def put(*lines):
        path = tmp_path / "prompts.jsonl"
        path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
        return path

    return put


def test_the_shipped_set_is_ten_each_of_six_categories():
    prompts = read_prompts()
    assert set(Counter(prompt.category for prompt in prompts).values()) == {10}
    assert len({prompt.category for prompt in prompts}) == 6
    assert len({prompt.text for prompt in prompts}) == 60


def test_spec_bench_reads_as_it_lies(public):
    prompts = read_prompts(public("prompts/specbench_questions.jsonl"))
    assert len(prompts) == 480
    assert (prompts[0].prompt_id, prompts[0].category) == ("81", "writing")
    assert prompts[0].text.startswith("Compose an engaging travel blog post")


def test_a_file_like_spec_benchs_reads_as_it_lies(write):
    lines = [
        {"question_id": 81 + i, "category": "qa", "turns": [f"ask {i}", "again"], "reference": []} for i in range(3)
    ]
    assert read_prompts(write(*lines)) == [Prompt(str(81 + i), "qa", f"ask {i}") for i in range(3)]


def test_the_first_turn_is_the_prompt_and_names_are_optional(write):
    path = write({"turns": ["one", "two"]}, "", {"prompt": "three", "category": "chat", "prompt_id": 7})
    assert read_prompts(path) == [Prompt("line-1", "", "one"), Prompt("7", "chat", "three")]


def test_a_limit_takes_evenly_from_the_whole_file():
    assert {prompt.category for prompt in read_prompts(limit=6)} == {prompt.category for prompt in read_prompts()}
    assert read_prompts(limit=6)[0] == read_prompts()[0]
    assert len(read_prompts(limit=600)) == 60


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    (tmp_path / "p.jsonl").write_bytes(b'\xef\xbb\xbf{"prompt": "hi"}\r\n')
    assert read_prompts(tmp_path / "p.jsonl")[0].text == "hi"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "is not a JSON object"),
        ("{}", "neither 'prompt' nor 'turns'; found nothing"),
        ('{"text": "hello"}', "found 'text'"),
        ('{"prompt": 3}', "'prompt' is not text"),
        ('{"prompt": "  "}', "empty"),
        ('{"turns": []}', "neither"),
        ('{"turns": [null]}', "neither"),
        ('{"turns": [["a"]]}', "'turns' is not text"),
        ('{"prompt": "again", "prompt_id": "line-1"}', "'line-1' is there twice"),
    ],
)
def test_a_bad_line_is_named(write, line, said):
    path = write({"prompt": "fine"}, line)
    with pytest.raises(LapsbenchError) as caught:
        read_prompts(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{path}, line 2: ")


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(LapsbenchError, match="cannot be read: No such file"):
        read_prompts(tmp_path / "none.jsonl")
    with pytest.raises(LapsbenchError, match="cannot be read"):
        read_prompts(tmp_path)
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "a"}\n{"prompt": "\xe9"}\n')
    with pytest.raises(LapsbenchError, match=r"latin\.jsonl, line 2: is not UTF-8"):
        read_prompts(tmp_path / "latin.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(LapsbenchError, match="holds no prompts"):
        read_prompts(tmp_path / "empty.jsonl")


def test_a_prompt_is_a_users_message_where_the_model_has_a_template():
    prompt = Prompt("a", "", "hi there")
    plain, chat = (tiny.tokenizer(template=template) for template in (None, tiny.TEMPLATE))
    assert encode(prompt, plain).tokens == tuple(plain("hi there")["input_ids"])
    assert encode(prompt, chat).tokens == tuple(plain("<hi there>")["input_ids"])


def test_a_template_that_fails_is_said():
    broken = tiny.tokenizer(template="{{ raise_exception('no users, please') }}")
    with pytest.raises(LapsbenchError, match="prompt a: the chat template fails"):
        encode(Prompt("a", "", "hi"), broken)

"""Public files that can be fetched: where each is, what it holds, under which licence.

`CATALOG` has the traces; `RECORDINGS` the recordings and prompts that tests and measurements of this repository read.

A sha256 is given only where it is known: of Azure 2023, Mooncake's chat and `RECORDINGS` from the files as this project
was handed them (a test counts again; none could be fetched from its address to compare), of BurstGPT 1 as this project
was handed it, of Azure 2024 and BurstGPT 3 as several public projects that fetched them state alike, of BurstGPT 2 as
one does; rows and bytes likewise. None is guessed: where it is None, a download is taken as it comes, and its sha256 is
told.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_AZURE = "https://raw.githubusercontent.com/Azure/AzurePublicDataset/master/data"
_AZURE_2024 = "https://github.com/Azure/AzurePublicDataset/releases/download/dataset-llm-2024"
_BURSTGPT = "https://github.com/HPMLL/BurstGPT/releases/download/v2.0"
_MOONCAKE = "https://raw.githubusercontent.com/kvcache-ai/Mooncake/main/FAST25-release/traces"
_SPECBENCH_ANSWERS = (
    "https://raw.githubusercontent.com/yukiki-jc/Spec-Bench/3b73a28cde526f453b6fb9fe5ca91bc9f0731853"
    "/data/spec_bench/model_answer"
)
_REST = "https://raw.githubusercontent.com/FasterDecoding/REST/99671847f87d80225549c73ddb5f4fa8c1f912ce"
_CC_BY = "CC-BY-4.0"
_APACHE = "Apache-2.0"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that can be fetched; None where something is not known."""

    name: str
    url: str
    sha256: str | None
    rows: int | None
    size_bytes: int | None
    licence: str
    about: str

    @property
    def file(self) -> str:
        """The name of the file, as published."""
        return self.url.rpartition("/")[2]


_ENTRIES = (
    Entry(
        "azure-conv-2023",
        f"{_AZURE}/AzureLLMInferenceTrace_conv.csv",
        "2f1e5b666d4e3055fdbba98598ce2ec307767b9064e03e2fa46676dbcc7d0bf8",
        19_366,
        719_188,
        _CC_BY,
        "chat, one hour",
    ),
    Entry(
        "azure-code-2023",
        f"{_AZURE}/AzureLLMInferenceTrace_code.csv",
        "54e9a6d2a4bd06ba1e060304b900abbc74cbea53de96506e60fe5bb4f2277fb6",
        8_819,
        320_117,
        _CC_BY,
        "code completion, one hour, very bursty",
    ),
    Entry(
        "azure-conv-2024",
        f"{_AZURE_2024}/AzureLLMInferenceTrace_conv_1week.csv",
        "a0cc9b969a9bbf0fd811802cbf4323edd3a209ace791e3799ad4f9207f213941",
        27_303_999,
        1_135_195_393,
        _CC_BY,
        "chat, one week",
    ),
    Entry(
        "azure-code-2024",
        f"{_AZURE_2024}/AzureLLMInferenceTrace_code_1week.csv",
        "71de5c55cbc35f8f1ed0b6b7806b4cd1e9764b0058469725a6aac98023a1448f",
        16_803_695,
        None,
        _CC_BY,
        "code completion, one week",
    ),
    Entry(
        "azure-multimodal-2024",
        f"{_AZURE}/AzureLMMInferenceTrace_multimodal.csv.gz",
        None,
        None,
        None,
        _CC_BY,
        "requests with images, one week; images are not priced",
    ),
    Entry(
        "burstgpt-1",
        f"{_BURSTGPT}/BurstGPT_1.csv",
        "4bb3783693d0a435686fbfc885615d2349bd067239079fa4b749f2e679e12122",
        1_429_737,
        52_283_111,
        _CC_BY,
        "ChatGPT and GPT-4, first two months",
    ),
    Entry(
        "burstgpt-2",
        f"{_BURSTGPT}/BurstGPT_2.csv",
        "44bf5942b03fca42c01a226a545ad3a750ec62688faecd67b6831c56a8928bf7",
        None,
        144_819_209,
        _CC_BY,
        "ChatGPT and GPT-4, second two months",
    ),
    Entry(
        "burstgpt-3",
        f"{_BURSTGPT}/BurstGPT_3.csv",
        "2299986a07388aa303ec2c41d1131e756db650a39ed6ef9dfe7cc3d7f9a43b8f",
        5_344_021,
        231_682_327,
        _CC_BY,
        "with sessions",
    ),
    Entry(
        "mooncake-conversation",
        f"{_MOONCAKE}/conversation_trace.jsonl",
        "b8cbb061a85206d729d91cdc2981f43c9e0d99209dce588d3af5f7934408b9df",
        12_031,
        3_029_533,
        _APACHE,
        "Kimi chat, one hour, prompts to 126k",
    ),
    Entry(
        "mooncake-toolagent",
        f"{_MOONCAKE}/toolagent_trace.jsonl",
        None,
        None,
        None,
        _APACHE,
        "Kimi tools and agents, one hour",
    ),
)
_RECORDINGS = (
    Entry(
        "specbench-eagle",
        f"{_SPECBENCH_ANSWERS}/vicuna-7b-v1.3-eagle-float16-temperature-0.0.jsonl",
        "5919ee7e94f5de69c03269eebfafda13196c5dcaed5c21eb400e5621348c09a1",
        480,
        575_812,
        _APACHE,
        "Spec-Bench, vicuna-7b with EAGLE",
    ),
    Entry(
        "specbench-68m",
        f"{_SPECBENCH_ANSWERS}/vicuna-7b-v1.3-sps-68m-float16-temp-0.0.jsonl",
        "22701dd9f8f7fdef547375fa786d2ff4fff0d2b9b08a96ba68fc72b9b9c0a8d6",
        480,
        608_565,
        _APACHE,
        "Spec-Bench, vicuna-7b with a draft of 68M",
    ),
    Entry(
        "mtbench-rest",
        f"{_REST}/llm_judge/data/mt_bench/model_answer/rest-vicuna-7b-v1.5-temperature-0.0-top_p-0.jsonl",
        "f3606e1e1fc22fe4591cd8f00d67dc17970b5581081199ec86a724277ec7a9f3",
        80,
        248_264,
        _APACHE,
        "MT-Bench, vicuna-7b with REST",
    ),
    Entry(
        "specbench-questions",
        "https://raw.githubusercontent.com/hemingkx/Spec-Bench/main/data/spec_bench/question.jsonl",
        "4b6d33e79484f9841c487ee87d1cf6aa8c6066f61d5d482ff09e5a007fafdf04",
        480,
        698_768,
        _APACHE,
        "Spec-Bench's questions; parts carry their own terms",
    ),
)
CATALOG: Mapping[str, Entry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
RECORDINGS: Mapping[str, Entry] = MappingProxyType({entry.name: entry for entry in _RECORDINGS})


def cache_folder() -> Path:
    """Return where fetched traces are kept: `LAPSBENCH_CACHE`, or `lapsbench` in the user's cache folder."""
    if chosen := os.environ.get("LAPSBENCH_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lapsbench"


def cached(entry: Entry) -> Path:
    """Return where a fetched trace is, or would be."""
    return cache_folder() / entry.file

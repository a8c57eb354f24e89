"""Public traces that can be fetched: where each is, what it holds, under which licence.

A sha256 is given only where it is known: of the Azure traces of 2023 from the files themselves (a test counts again),
of BurstGPT 1 as this project was handed it, of Azure 2024 and BurstGPT 3 as several public projects that fetched them
state alike, of BurstGPT 2 as one does; rows and bytes likewise. None is guessed: where it is None, a download is taken
as it comes, and its sha256 is told.
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
_CC_BY = "CC-BY-4.0"


@dataclass(frozen=True, slots=True)
class Entry:
    """A trace that can be fetched; None where something is not known."""

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
        None,
        12_031,
        None,
        "Apache-2.0",
        "Kimi chat, one hour, prompts to 126k",
    ),
    Entry(
        "mooncake-toolagent",
        f"{_MOONCAKE}/toolagent_trace.jsonl",
        None,
        None,
        None,
        "Apache-2.0",
        "Kimi tools and agents, one hour",
    ),
)
CATALOG: Mapping[str, Entry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})


def cache_folder() -> Path:
    """Return where fetched traces are kept: `LAPSBENCH_CACHE`, or `lapsbench` in the user's cache folder."""
    if chosen := os.environ.get("LAPSBENCH_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lapsbench"


def cached(entry: Entry) -> Path:
    """Return where a fetched trace is, or would be."""
    return cache_folder() / entry.file

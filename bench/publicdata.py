"""Finds the public recordings that tests and measurements read: `$LAPSBENCH_DATA`, else `data/`, else `../shared/data`.

None is committed here. Where `LAPSBENCH_DATA` is set only that folder counts, so an empty one makes a bare machine;
else each file is looked for in both places. As a script (`make public-data`) it fetches into `data/` what has a public
address, and lists the rest. It lies in `bench/` since a script imports what lies beside it; tests import it by pytest's
`pythonpath`, and get files through the fixture `public` of `tests/conftest.py`.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = "data"
VARIABLE = "LAPSBENCH_DATA"
FILES = {
    "traces/AzureLLMInferenceTrace_conv.csv": "azure-conv-2023",
    "traces/AzureLLMInferenceTrace_code.csv": "azure-code-2023",
    "traces/azure_llm_code_v3_1024.csv": None,
    "traces/mooncake_conversation_trace.jsonl": "mooncake-conversation",
    "acceptance/specbench_vicuna-7b_eagle.jsonl": "specbench-eagle",
    "acceptance/specbench_vicuna-7b_sps-68m.jsonl": "specbench-68m",
    "acceptance/mtbench_vicuna-7b_rest.jsonl": "mtbench-rest",
    "acceptance/specdecodebench_llama3.1-8b_gsm8k.jsonl": None,
    "acceptance/specdecodebench_llama3.1-8b_sharegpt.jsonl": None,
    "acceptance/dflash_qwen3-4b_t0.rounds.jsonl": None,
    "acceptance/dflash_qwen3-4b_t0.samples.jsonl": None,
    "predictors/ssjf_vicuna-13b_5class.csv": None,
    "prompts/specbench_questions.jsonl": "specbench-questions",
}
"""Every public file that is read, and its name in the catalogue; None where no public address is known."""


def folders() -> tuple[Path, ...]:
    """Return the folders a public file is looked for in, the first first."""
    if chosen := os.environ.get(VARIABLE):
        return (Path(chosen).resolve(),)
    return ROOT / HOME, ROOT.parent / "shared" / "data"


def public_path(name: str) -> Path | None:
    """Return where a public file such as `traces/AzureLLMInferenceTrace_conv.csv` lies; None where it does not."""
    return next((path for folder in folders() if (path := folder / name).is_file()), None)


def get(name: str, home: Path) -> str:
    """Fetch a file into its home unless it is there as it should be; return how it went."""
    from lapsbench.traces.catalog import CATALOG, RECORDINGS  # noqa: PLC0415 finding a file imports nothing heavy
    from lapsbench.traces.fetch import fetch, sha256  # noqa: PLC0415

    path = home / name
    if FILES[name] is None:
        return "here" if public_path(name) else "no public address is known: docs/traces.md says what it is"
    entry = {**CATALOG, **RECORDINGS}[FILES[name]]
    if path.is_file() and sha256(path) == entry.sha256:
        return "here"
    fetched = fetch(entry, lambda *_: None)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(fetched, path)
    return f"fetched, {entry.licence}"


def main() -> int:
    """Fetch what can be fetched, a line a file on stdout; 1 where a download failed.

    With `--found`, only say how many files are here; 1 where none is.
    """
    if "--found" in sys.argv[1:]:
        here = [path for path in map(public_path, FILES) if path]
        print(f"{len(here)} of {len(FILES)} public files are here")
        return not here
    from lapsbench.errors import LapsbenchError  # noqa: PLC0415

    home, failed = Path(os.environ.get(VARIABLE) or ROOT / HOME), 0
    for name in FILES:
        try:
            print(f"{name}: {get(name, home)}")
        except LapsbenchError as error:
            failed = 1
            print(error, file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())

"""Finds the public recordings that tests and measurements read: `$LAPSBENCH_DATA`, else `data/`, else `../shared/data`.

None is committed here. Where `LAPSBENCH_DATA` is set only that folder counts, so an empty one makes a bare machine;
else each file is looked for in both places. It lies in `bench/` since scripts import only what lies beside them; tests
import it by pytest's `pythonpath`, and get files through the fixture `public` of `tests/conftest.py`.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOME = "data"
VARIABLE = "LAPSBENCH_DATA"


def folders() -> tuple[Path, ...]:
    """Return the folders a public file is looked for in, the first first."""
    if chosen := os.environ.get(VARIABLE):
        return (Path(chosen).resolve(),)
    return ROOT / HOME, ROOT.parent / "shared" / "data"


def public_path(name: str) -> Path | None:
    """Return where a public file such as `traces/AzureLLMInferenceTrace_conv.csv` lies; None where it does not."""
    return next((path for folder in folders() if (path := folder / name).is_file()), None)

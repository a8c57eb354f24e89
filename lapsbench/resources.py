"""Finds the data shipped with the package: small traces and profiles, by name.

Knows folders and names; what the files hold is for `traces` and `store`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["traces", "profiles"]

_PACKAGE = Path(__file__).parent


def shipped(kind: Kind) -> Path:
    """Return the folder of shipped traces or profiles: the wheel's own copy, else the top of the checkout."""
    installed = _PACKAGE / "shipped" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind


def names(kind: Kind) -> tuple[str, ...]:
    """Return the names a user may type: a trace is a Parquet file, a profile a folder with a cost table."""
    folder = shipped(kind)
    if kind == "traces":
        return tuple(sorted(path.stem for path in folder.glob("*.parquet")))
    return tuple(sorted(path.parent.name for path in folder.glob("*/cost.parquet")))

"""What a validation came to, on disk: `validation.json`, and its errors as `figures.parquet`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lapsbench import files
from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from pathlib import Path

RESULT = "validation.json"
FIGURES = "figures.parquet"
SCHEMA = "lapsbench.validation/2"
AGAIN = "the same `lapsbench validate` again: what was served is kept"


def write_result(folder: Path, result: dict[str, Any]) -> None:
    """Write the tables."""
    import polars as pl  # noqa: PLC0415 - `report` asks whether there is a result, and polars takes long

    with files.whole(folder / RESULT) as part:
        part.write_text(json.dumps({"schema": SCHEMA, **result}, indent=1), encoding="utf-8")
    with files.whole(folder / FIGURES) as part:
        pl.DataFrame(result["figures"]).write_parquet(part)


def read_result(folder: Path) -> dict[str, Any]:
    """Return the tables.

    Raises:
        LapsbenchError: the file is damaged, or of another version.
    """
    path = folder / RESULT
    try:
        result = json.loads(files.text(path))
    except ValueError as error:
        raise LapsbenchError(f"is damaged: {error}", where=str(path), hint=AGAIN) from error
    if not isinstance(result, dict) or result.get("schema") != SCHEMA:
        raise LapsbenchError("is not a validation of this version", where=str(path), hint=AGAIN)
    return result

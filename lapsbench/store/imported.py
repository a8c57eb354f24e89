"""Profiles put together from parts: somebody's recorded acceptance on somebody's step costs, or a linear step model.

Knows that the two may be of different models, and says so in the label; whether they belong together is for the user.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapsbench import files
from lapsbench.core import Profile
from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.store.linear import Linear, step_model
from lapsbench.store.lock import FolderLock
from lapsbench.store.profile import COST_FILE, open_profile, write_profile
from lapsbench.store.tables import read_costs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lapsbench.acceptance.readers.reader import Reading
    from lapsbench.core import Bank

DRAFT_TOKENS_MAX = 8


def open_costs(source: str) -> Profile:
    """Return a profile for its costs: a shipped name, a folder, or a file of step costs.

    Raises:
        LapsbenchError: it is none of them, or cannot be read.
    """
    path = Path(source)
    if not _is_file(path):
        return open_profile(source)
    table = read_costs(path)
    return Profile(path.stem, table.costs, None, table.provenance)


def with_acceptance(costs: Profile, reading: Reading, source: str, command: str) -> Profile:
    """Return the costs of one profile with acceptance that was read from a file."""
    about = {
        **reading.provenance,
        "kind": "recorded",
        "file": Path(source).name,
        "format": reading.format,
        "reconciliation": reading.reconciliation,
        "notes": list(reading.notes),
    }
    label = f"{costs.label}; acceptance read from {Path(source).name}"
    return _profile(costs, reading.bank, about, label, command)


def with_bank(costs: Profile, bank: Bank, label: str, command: str) -> Profile:
    """Return the costs of one profile with a bank that was made."""
    return _profile(
        costs, bank, {"kind": "generated, not recorded", "label": label}, f"{costs.label}; {label}", command
    )


def linear_profile(target: Linear, draft: Linear, overhead_s: float, command: str) -> Profile:
    """Return costs only, from the seven coefficients of a linear step model.

    Raises:
        UsageError: the coefficients price some step at nothing or less.
    """
    costs = step_model(target, draft, Linear(overhead_s), DRAFT_TOKENS_MAX)
    if not (costs.time_s > 0).all():
        raise UsageError("some step would take no time", where="--target, --draft, --overhead", hint="larger constants")
    form = "fixed_s + per_token_s * batch * query + per_kv_token_s * batch * context"
    provenance = {
        "label": "a linear step model, typed in",
        "formulas": {
            "form": form,
            "verify": _coefficients(target),
            "prefill": "a target pass",
            "draft": _coefficients(draft),
            "overhead": {"fixed_s": overhead_s},
        },
        "command": command,
    }
    return Profile("linear", costs, None, provenance)


def write_new(folder: Path, profile: Profile) -> None:
    """Write a profile into a folder that holds none, and that no other command writes.

    Raises:
        LapsbenchError: it holds one, another command writes there, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.cannot_write(error, str(folder)) from error
    lock = FolderLock(folder)
    try:
        refuse_taken(folder)
        write_profile(folder, profile)
    finally:
        lock.release()


def refuse_taken(folder: Path) -> None:
    """Refuse to write where a profile is.

    Raises:
        LapsbenchError: there is one.
    """
    if (folder / COST_FILE).exists():
        raise LapsbenchError("holds a profile already", where=str(folder), hint="another folder, or removing it first")


def _profile(costs: Profile, bank: Bank, about: Mapping[str, Any], label: str, command: str) -> Profile:
    provenance = {**costs.provenance, "label": label, "acceptance": about, "command": command}
    provenance.pop("draft_tokens_max_from", None)
    return Profile(costs.name, costs.costs, bank, provenance)


def _coefficients(linear: Linear) -> dict[str, float]:
    return {"fixed_s": linear.fixed_s, "per_token_s": linear.per_token_s, "per_kv_token_s": linear.per_kv_token_s}


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or one with a NUL in it
        return False

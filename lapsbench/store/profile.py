"""Profiles on disk: a folder of cost.parquet and, optionally, acceptance.parquet (docs/profiles.md).

Whatever a file gets wrong ends here, as one line that names file, column and row; rows count from 1. Behind this door
a `Profile` is sound: positive finite times, no grid point twice, one acceptance value per output token.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lapsbench import files, resources, schema
from lapsbench.core import COMPONENTS, Bank, Costs, Profile
from lapsbench.errors import LapsbenchError
from lapsbench.store.parquet_columns import Columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lapsbench.core import Bytes, Floats, Ints, Longs

COST_FILE = "cost.parquet"
ACCEPTANCE_FILE = "acceptance.parquet"
NEEDED = pa.schema(list(schema.COST)[:5])
"""The columns a cost table from elsewhere must have, up to time_s; percentiles and repeats are for people."""
OF_MIXED = pa.schema(list(schema.COST)[-2:])
"""Those that only `mixed` rows have."""


@dataclass(frozen=True, slots=True)
class Repeats:
    """How a cost table was measured, one value per row of `Costs`: percentiles of time_s, and how many repeats."""

    time_p10_s: Floats
    time_p90_s: Floats
    repeats: Ints


def open_profile(source: str) -> Profile:
    """Return the shipped profile of that name, or else the one in that folder.

    Without acceptance.parquet the profile has costs only, and `bank` is None. Where the files do not say
    `draft_tokens_max`, it is the largest accept_runs, and the provenance says so.

    Raises:
        LapsbenchError: no such profile, or a file that cannot be read or does not hold together.
    """
    folder = _folder(source)
    costs, provenance = _read_costs(folder / COST_FILE)
    bank = None
    if (folder / ACCEPTANCE_FILE).exists():
        bank, stated = _read_bank(folder / ACCEPTANCE_FILE, provenance)
        provenance = {**provenance, "draft_tokens_max": bank.draft_tokens_max}
        if not stated:
            provenance["draft_tokens_max_from"] = "the largest accept_runs; the file does not say"
    return Profile(folder.resolve().name, costs, bank, provenance)


def write_profile(folder: Path, profile: Profile, repeats: Repeats | None = None) -> None:
    """Write a profile that `open_profile` reads back.

    Without `repeats` the times count as not measured: percentiles equal to time_s, 0 repeats. Without a bank, an
    acceptance.parquet already in the folder is left alone.

    Raises:
        LapsbenchError: the folder cannot be written.
    """
    costs, bank, provenance = profile.costs, profile.bank, dict(profile.provenance)
    if bank is not None:
        provenance["draft_tokens_max"] = bank.draft_tokens_max
    if repeats is None:
        repeats = Repeats(costs.time_s, costs.time_s, np.zeros(len(costs.time_s), dtype=np.int32))
    sizes = [costs.batch_size, costs.query_tokens, costs.context_tokens]
    columns = [costs.component, *sizes, costs.time_s, repeats.time_p10_s, repeats.time_p90_s, repeats.repeats]
    columns += [_of_mixed(costs, values) for values in (costs.verify_tokens, costs.chunk_context_tokens)]
    with files.whole(folder / COST_FILE) as cost_part:  # appears last: without it there is no profile
        schema.put_parquet(_table(columns, schema.COST), cost_part, "cost", provenance)
        if bank is not None:
            about = [bank.prompt_id, bank.category, bank.prompt_tokens, bank.output_tokens]
            recordings = _table([*about, _lists(bank, bank.accept_runs)], schema.ACCEPTANCE)
            if bank.drafted is not None:
                recordings = recordings.append_column(schema.ACCEPTANCE_OPTIONAL[0], _lists(bank, bank.drafted))
            schema.write_parquet(recordings, folder / ACCEPTANCE_FILE, "acceptance", provenance)


def _lists(bank: Bank, values: Bytes) -> pa.Array:
    return pa.LargeListArray.from_arrays(bank.offsets, pa.array(values)).cast(pa.list_(pa.uint8()))


def _of_mixed(costs: Costs, values: Ints | None) -> pa.Array:
    if values is None:
        return pa.nulls(len(costs.time_s), pa.int32())
    return pa.array(values, pa.int32(), mask=costs.component != "mixed")


def _table(columns: list[Any], wanted: pa.Schema) -> pa.Table:
    return pa.table(
        [pa.array(values, type_.type) for values, type_ in zip(columns, wanted, strict=True)], schema=wanted
    )


def _folder(source: str) -> Path:
    names = resources.names("profiles")
    if source in names:
        return resources.shipped("profiles") / source
    if os.path.isdir(source):  # noqa: PTH112 - Path.is_dir raises on names too long for the system
        if not (Path(source) / COST_FILE).exists():
            hint = f"a profile's folder, with {COST_FILE} in it"
            raise LapsbenchError("no such file", where=str(Path(source) / COST_FILE), hint=hint)
        return Path(source)
    what = "is a file, not a profile's folder" if os.path.isfile(source) else "no such profile"  # noqa: PTH113
    raise LapsbenchError(
        what, where=source or "--profile", hint=f"{', '.join(names)}, or a folder with {COST_FILE} in it"
    )


def _read_costs(path: Path) -> tuple[Costs, Mapping[str, Any]]:
    file = Columns(schema.read_parquet(path, "cost", NEEDED, OF_MIXED), path)
    return checked_costs(file), file.provenance()


def checked_costs(file: Columns) -> Costs:
    """Return the costs of a table with the columns `NEEDED`.

    Raises:
        LapsbenchError: a value that is none, a grid point twice, or no `verify`.
    """
    costs = Costs(
        file.strings("component"),
        file.numbers("batch_size", least=1),
        file.numbers("query_tokens", least=1),
        file.numbers("context_tokens", least=0),
        file.numbers("time_s"),
        *_sizes_of_mixed(file),
    )
    foreign = ~np.isin(costs.component, COMPONENTS)
    file.refuse(foreign, "component", costs.component, "is not a component", hint=f"one of {', '.join(COMPONENTS)}")
    unusable = ~(np.isfinite(costs.time_s) & (costs.time_s > 0))
    file.refuse(unusable, "time_s", costs.time_s, "is not a time", hint="positive seconds, or leaving the row out")
    if not costs.has("verify"):
        what = "no row has the component 'verify'"
        raise LapsbenchError(what, where=str(file.path), hint="adding the cost of the target's pass: replay needs it")
    _refuse_duplicates(costs, file)
    return costs


def _sizes_of_mixed(file: Columns) -> tuple[Ints, Ints] | tuple[()]:
    """Return verify_tokens and chunk_context_tokens, 0 where a row is not `mixed`; nothing where none is."""
    component, found = file.strings("component"), []
    mixed = component == "mixed"
    for name, least in zip(OF_MIXED.names, (1, 0), strict=True):
        values = file.optional(name, absent=-1, needed=bool(np.any(mixed)))
        stated = np.where(values < 0, "null", values.astype(str))
        file.refuse(mixed & (values < least), name, stated, "is no size of a 'mixed' row", hint=f"{least} or more")
        file.refuse(~mixed & (values >= 0), name, stated, "is not for this component", hint="null: only 'mixed' has it")
        found.append(np.where(mixed, values, 0).astype(np.int32))
    return (found[0], found[1]) if np.any(mixed) else ()


def _refuse_duplicates(costs: Costs, file: Columns) -> None:
    kind = np.searchsorted(np.sort(COMPONENTS), costs.component.astype(str))
    sizes = [costs.batch_size, costs.query_tokens, costs.context_tokens]
    sizes += [values for values in (costs.verify_tokens, costs.chunk_context_tokens) if values is not None]
    grid = np.stack([kind, *sizes], axis=1)
    _, first, inverse = np.unique(grid, axis=0, return_index=True, return_inverse=True)
    earlier = first[inverse.reshape(-1)]
    again = earlier != np.arange(len(grid))
    if np.any(again):
        row = int(np.argmax(again))
        what = f"repeats the grid point of row {earlier[row] + 1}"
        hint = "one row per component and sizes"
        file.fail("component", row, f"{costs.component[row]!r} {what}", hint=hint)


def _read_bank(path: Path, of_costs: Mapping[str, Any]) -> tuple[Bank, bool]:
    """Return the bank, and whether the files state its draft_tokens_max."""
    file = Columns(schema.read_parquet(path, "acceptance", schema.ACCEPTANCE, schema.ACCEPTANCE_OPTIONAL), path)
    if not file.table.num_rows:
        raise LapsbenchError("holds no recordings", where=str(path), hint="removing it, for a profile of costs only")
    output_tokens = file.numbers("output_tokens", least=1)
    offsets, runs = file.lists("accept_runs")
    _refuse_lengths(np.diff(offsets), output_tokens, file)
    stated = file.provenance().get("draft_tokens_max", of_costs.get("draft_tokens_max"))
    most = int(runs.max()) if stated is None else _draft_tokens_max(stated, path)
    longest = np.maximum.reduceat(runs, offsets[:-1])
    what = f"is more than draft_tokens_max = {most}"
    file.refuse(longest > most, "accept_runs", longest, what, hint="the draft_tokens_max it was recorded with")
    prompt_tokens = file.numbers("prompt_tokens", least=1)
    about = file.strings("prompt_id"), file.strings("category"), prompt_tokens, output_tokens
    bank = Bank(*about, offsets, runs, most, _read_drafted(file, output_tokens, offsets, runs, most))
    return bank, stated is not None


def _read_drafted(file: Columns, output_tokens: Ints, offsets: Longs, runs: Bytes, most: int) -> Bytes | None:
    """Return the drafts that were made, where the file says: no fewer than were accepted."""
    if "drafted" not in file.table.column_names:
        return None
    own, drafted = file.lists("drafted")
    _refuse_lengths(np.diff(own), output_tokens, file, "drafted")
    fewer = np.maximum.reduceat((drafted < runs).astype(np.uint8), offsets[:-1]) > 0
    what, hint = "is less than accept_runs somewhere", "drafts that were made, of which so many were accepted"
    file.refuse(fewer, "drafted", np.minimum.reduceat(drafted, offsets[:-1]), what, hint=hint)
    longest = np.maximum.reduceat(drafted, offsets[:-1])
    what, hint = f"is more than draft_tokens_max = {most}", "the draft_tokens_max it was recorded with"
    file.refuse(longest > most, "drafted", longest, what, hint=hint)
    return drafted


def _refuse_lengths(lengths: Longs, output_tokens: Ints, file: Columns, column: str = "accept_runs") -> None:
    wrong = lengths != output_tokens
    if np.any(wrong):
        row = int(np.argmax(wrong))
        what = f"holds {lengths[row]} values for {output_tokens[row]} output tokens"
        file.fail(column, row, what, hint="one value per output token")


def _draft_tokens_max(stated: object, path: Path) -> int:
    if isinstance(stated, int) and 0 <= stated <= 255:
        return stated
    what = f"draft_tokens_max is {stated!r}"
    raise LapsbenchError(what, where=f"{path}: provenance", hint="a whole number from 0 to 255")

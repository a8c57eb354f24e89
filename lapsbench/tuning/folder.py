"""The folder of a tuning: one command at a time, and no other question than the one it was begun with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Self

import optuna

from lapsbench import files
from lapsbench.errors import LapsbenchError
from lapsbench.replay import code_key
from lapsbench.store.lock import FolderLock, names_in
from lapsbench.store.run import content_key

if TYPE_CHECKING:
    from lapsbench.sim.sweep import Plan
    from lapsbench.tuning.asked import Asked
    from lapsbench.tuning.space import Space

MANIFEST, SCHEMA = "tune.json", "lapsbench.tune/1"
ROOMS = (
    "compiled",
    "sim",
    "policies",
    "drafts",
    "acceptance",
    "traces",
    "metrics",
    "tuning",
    "core.py",
    "schedules.py",
)
"""What a trial depends on besides its inputs."""


class TuneFolder:
    """An open folder, until `__exit__`.

    Raises:
        LapsbenchError: it cannot be made, holds something else, or the trials of another question, or another command
            writes there.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        try:
            there = names_in(path)
            path.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = getattr(error, "strerror", None) or error
            raise LapsbenchError(f"cannot make the folder: {reason}", where=str(path), hint="another --out") from error
        if there:
            _refuse_foreign(path, key)
        self._lock = FolderLock(path)
        self.remark = self._lock.remark
        try:
            self.write(MANIFEST, json.dumps({"schema": SCHEMA, "key": key}) + "\n")
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def write(self, name: str, text: str) -> None:
        """Write a file whole."""
        with files.whole(self.path / name) as part:
            part.write_text(text, encoding="utf-8")


def key_of(asked: Asked, plan: Plan, space: Space) -> str:
    """Return the hash of the question, and of all an answer depends on; of the budget nothing: more of it goes on."""
    trace, costs, bank = plan.trace, plan.profile.costs, plan.profile.bank
    arrays = [trace.arrival_s, trace.prompt_tokens, trace.output_tokens, costs.batch_size, costs.context_tokens]
    arrays += [costs.component, costs.query_tokens, costs.time_s]
    arrays += [] if bank is None else [bank.output_tokens, bank.accept_runs]
    arrays += [] if bank is None or bank.drafted is None else [bank.drafted]
    question = [asked.minimize, [each.text for each in asked.over], [each.text for each in asked.limits]]
    files_named = [each.file for each in space.policies_tried()] + [each.file for each in space.controllers_tried()]
    own = [file and Path(file).read_text("utf-8") for file in files_named]
    scenario = asked.scenario.model_dump(mode="json")
    return content_key(code_key(ROOMS), optuna.__version__, scenario, question, own, *arrays)


def _refuse_foreign(path: Path, key: str) -> None:
    what, hint = "holds files, but no tuning", "a new or empty --out folder"
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        if manifest["schema"] == SCHEMA:
            what = "holds the trials of another question, or of another version"
            if manifest["key"] == key:
                return
    except (OSError, LookupError, ValueError, TypeError):
        pass
    raise LapsbenchError(what, where=str(path), hint=hint)

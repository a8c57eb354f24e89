"""What an errand takes elsewhere, in parts known by their content: a machine is sent each once, for all errands.

A user's file travels as source, since Numba compiles what it can read; the rest is pickled, functions by name.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lapsbench.core import Calibration, Engine, Policy
from lapsbench.errors import LapsbenchError
from lapsbench.machines.sources import Source
from lapsbench.policies.registry import builtin, find

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.machines.errand import Errand


@dataclass(frozen=True, slots=True)
class Part:
    """Something pickled, and the hash it is known by."""

    key: str
    content: bytes

    @classmethod
    def of(cls, content: bytes) -> Part:
        """Hash it."""
        return cls(hashlib.sha256(content).hexdigest()[:32], content)


@dataclass(frozen=True, slots=True)
class SentPolicy:
    """A policy as it travels: where its function is, and what was set; `code` hashes the file of an installed one."""

    function: str
    file: Source | None
    code: str
    settings: dict[str, Any]

    @classmethod
    def of(cls, policy: Policy) -> SentPolicy:
        """Take down all that `opened` needs."""
        name = policy.rank.__name__ if policy.name in builtin() else policy.name
        return cls(
            function=policy.function or name,
            file=Source.read(policy.file) if policy.file else None,
            code="" if policy.file or policy.name in builtin() else _code(policy),
            settings={"name": policy.name, "parameters": dict(policy.parameters), "preempt": policy.preempt},
        )

    def opened(self) -> Policy:
        """Return the policy.

        Raises:
            LapsbenchError: its file does not load here, or is installed otherwise, or not at all.
        """
        found = find(f"{self.file.placed()}:{self.function}" if self.file else self.function)
        if self.code and self.code != _code(found):
            hint = "installing the same there"
            raise LapsbenchError("is installed in another version", where=f"policy {found.name!r}", hint=hint)
        settings = self.settings | {"parameters": MappingProxyType(self.settings["parameters"])}
        return replace(found, **settings)


def packed(errand: Errand[Any, Any]) -> tuple[Part, ...]:
    """Return an errand in parts: what is its own, then what of it is large."""
    large = errand.large
    return tuple(Part.of(each) for each in (pickled(errand, large), *(pickled(each) for each in large)))


def unpacked(own: bytes, large: Sequence[Any]) -> Any:
    """Return the errand of its own part and what the others hold."""
    return _Unpacker(own, large).load()


def _code(policy: Policy) -> str:
    return hashlib.sha256(Path(policy.rank.__code__.co_filename).read_bytes()).hexdigest()


class _Packer(pickle.Pickler):
    """Says how to make again what pickle does not take."""

    def reducer_override(self, found: object) -> Any:
        """Say how to make what pickle cannot, or should not, take as it is."""
        if isinstance(found, Policy):
            return SentPolicy.opened, (SentPolicy.of(found),)
        if isinstance(found, Engine) and ".py:" in found.drafts:
            path, _, rest = found.drafts.partition(".py:")
            return _drafting, (replace(found, drafts=""), Source.read(f"{path}.py"), rest)
        if isinstance(found, MappingProxyType):
            return MappingProxyType, (dict(found),)
        if isinstance(found, Calibration) and found.tables:
            return _same, (replace(found, tables={}),)
        return NotImplemented


class _OwnPacker(_Packer):
    """Leaves out what travels on its own."""

    def __init__(self, file: io.BytesIO, apart: Sequence[object]) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self.apart = {id(each): place for place, each in enumerate(apart)}

    def persistent_id(self, found: object) -> int | None:
        """Say which of the other parts an object is."""
        return self.apart.get(id(found))


class _Unpacker(pickle.Unpickler):
    def __init__(self, content: bytes, apart: Sequence[Any]) -> None:
        super().__init__(io.BytesIO(content))
        self.apart = apart

    def persistent_load(self, place: int) -> Any:
        return self.apart[place]


def _drafting(engine: Engine, file: Source, rest: str) -> Engine:
    return replace(engine, drafts=f"{file.placed()}:{rest}")


def _same(found: Calibration) -> Calibration:
    return found


def pickled(found: object, apart: Sequence[object] = ()) -> bytes:
    """Pickle something, but for what travels apart."""
    file = io.BytesIO()
    packer = _OwnPacker(file, apart) if apart else _Packer(file, protocol=pickle.HIGHEST_PROTOCOL)
    packer.dump(found)
    return file.getvalue()

"""Replays cells elsewhere: on a Dask or Ray cluster, or in processes of this machine.

`opened` makes of what follows `--on` one object that is given sweeps and yields what comes of them as it comes in
(`machines.Machines`). Knows nothing of run folders: who asks keeps what comes.
"""

from __future__ import annotations

import logging
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from lapsbench.errors import LapsbenchError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lapsbench.machines.machines import Machines
    from lapsbench.machines.pool import Pool

FORMS = "dask://HOST:PORT, ray://HOST:PORT or local:N"
MOST = 1024
"""Processes of this machine."""


def checked(place: str) -> tuple[str, str, int]:
    """Return kind, host and port, or number of processes, of a place.

    Raises:
        UsageError: it is none.
    """
    kind, _, rest = place.strip().partition(":")
    if kind == "local":
        if not (rest.isdecimal() and 1 <= int(rest) <= MOST):
            raise UsageError(
                f"{rest!r} is no number of processes", where=f"--on {place}", hint=f"local:2, up to {MOST}"
            )
        return kind, "", int(rest)
    host, colon, port = rest.removeprefix("//").rpartition(":")
    if kind not in ("dask", "ray") or not rest.startswith("//"):
        raise UsageError(f"{place!r} is no place to replay", where="--on", hint=FORMS)
    if not (host and colon and port.isdecimal() and 0 < int(port) < 65_536):
        example = {"dask": "dask://10.0.0.5:8786", "ray": "ray://10.0.0.5:10001"}[kind]
        raise UsageError("is not HOST:PORT", where=f"--on {place}", hint=example)
    return kind, host, int(port)


@contextmanager
def opened(place: str, tell: Callable[[str], None] = lambda _: None) -> Iterator[Machines]:
    """Give who replays cells at a place, until the end.

    Args:
        place: as after `--on`.
        tell: told of what is lost on the way.

    Raises:
        UsageError: it is no place.
        LapsbenchError: it cannot be reached, or what it takes is not installed.
    """
    checked(place)
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # Dask and Ray log pages about what is said here in a line
    try:
        pool = _pool(place)
        from lapsbench.machines.machines import Machines  # noqa: PLC0415 - after a bad address

        with closing(Machines(pool, tell)) as machines:
            yield machines
    finally:
        logging.disable(before)


def _pool(place: str) -> Pool:
    kind, host, number = checked(place)
    try:
        if kind == "local":
            from lapsbench.machines.on_local import LocalPool  # noqa: PLC0415 - only what is asked for

            return LocalPool(place, number)
        if kind == "dask":
            from lapsbench.machines.on_dask import DaskPool  # noqa: PLC0415 - only what is asked for

            return DaskPool(place, host, number)
        from lapsbench.machines.on_ray import RayPool  # noqa: PLC0415 - only what is asked for

        return RayPool(place, host, number)
    except ModuleNotFoundError as error:
        what = f"takes {error.name}, which is not installed"
        raise LapsbenchError(what, where=f"--on {place}", hint="pip install 'lapsbench[cluster]'") from error

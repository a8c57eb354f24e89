"""Fetches a trace of the catalogue: through pooch, with its sha256 checked, resumed where it was interrupted.

`LAPSBENCH_MIRROR` is a URL to fetch from instead, by the names of the files. A download that is not what it should be
is refused and not kept.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import pooch
import requests

from lapsbench.errors import LapsbenchError
from lapsbench.traces.catalog import cached

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lapsbench.traces.catalog import Entry

    Progress = Callable[[int, int | None], None]

MIRROR = "LAPSBENCH_MIRROR"
CHUNK = 1 << 14
"""Of a connection that breaks off, at most so many bytes are lost."""
TIMEOUT_S = 30


def url_of(entry: Entry) -> str:
    """Return where a trace is fetched from: its own place, or the mirror."""
    mirror = os.environ.get(MIRROR, "").strip()
    return f"{mirror.rstrip('/')}/{entry.file}" if mirror else entry.url


def fetch(entry: Entry, progress: Progress) -> Path:
    """Return the file of a trace, fetched if it is not there yet.

    Args:
        entry: of the catalogue.
        progress: told how many bytes are here, and how many there are in all, if that is known.

    Raises:
        LapsbenchError: the server does not answer, or what it sends is not the trace; the disk cannot be written.
    """
    path, url = cached(entry), url_of(entry)
    pooch.get_logger().setLevel(logging.ERROR)  # its remarks on files without a hash are not for our users
    part = path.with_name(path.name + ".part")
    known = f"sha256:{entry.sha256}" if entry.sha256 else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if known and path.exists() and pooch.file_hash(str(path)) == entry.sha256:
            return path
        downloader = _Resuming(part, progress, resumes=known is not None)
        pooch.retrieve(url, known, path.name, str(path.parent), downloader=downloader)
    except requests.RequestException as error:  # before ValueError: a URL that is none is both
        kept = ", what is here is kept" if known and part.exists() else ""
        what = f"cannot be fetched ({_reason(error)}){kept}"
        raise LapsbenchError(what, where=url, hint=f"again, or a mirror: {MIRROR}=https://...") from error
    except ValueError as error:  # pooch's word for a hash that differs; what it fetched is gone already
        what = f"is not the file it should be: its sha256 is not {entry.sha256}"
        raise LapsbenchError(what, where=url, hint=f"again, or another {MIRROR}") from error
    return path


def sha256(path: Path) -> str:
    """Return a file's sha256."""
    return str(pooch.file_hash(str(path)))


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP {response.status_code} {response.reason}"
    return type(error).__name__


class _Resuming:
    """A downloader for pooch that goes on behind what an earlier try left in `part`.

    Only where the hash is known: without one, nobody would notice that the file changed between the tries.
    """

    def __init__(self, part: Path, progress: Progress, *, resumes: bool) -> None:
        self.part = part
        self.progress = progress
        self.resumes = resumes

    def __call__(self, url: str, output_file: str, _: object) -> None:
        """Fetch `url` into `output_file`."""
        here = self.part.stat().st_size if self.resumes and self.part.exists() else 0
        self._fetch(url, here)
        self.part.replace(output_file)

    def _fetch(self, url: str, here: int) -> None:
        headers = (
            {"Range": f"bytes={here}-", "Accept-Encoding": "identity"} if here else {"Accept-Encoding": "identity"}
        )
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
            if here and response.status_code == requests.codes.requested_range_not_satisfiable:
                return  # all of it is here
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                here = 0  # the server sends the whole file
            size = response.headers.get("Content-Length")
            total = here + int(size) if size is not None else None
            with self.part.open("ab" if here else "wb") as file:
                for chunk in response.iter_content(CHUNK):
                    file.write(chunk)
                    here += len(chunk)
                    self.progress(here, total)
            if total is not None and here != total:
                raise requests.ConnectionError("the connection broke off")

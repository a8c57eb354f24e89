"""vLLM's queue of waiting requests, in the order of a board: vLLM looks at the first, and takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.v1.core.sched.request_queue import RequestQueue

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vllm.v1.request import Request

    from lapsbench.vllm.board import Board


class RankedQueue(RequestQueue):
    """The waiting requests; `arrange` puts them in order once a step, and they are listed once somebody looks."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.listed: list[Request] | None = []
        self.count = 0

    def arrange(self) -> None:
        """Put those who wait in the board's order."""
        self.listed = None

    @property
    def items(self) -> list[Request]:
        """Those who wait, in order."""
        if self.listed is None:
            self.listed = self.board.waiting()
        return self.listed

    def _mark(self, request: Request, *, waits: bool) -> None:
        self.board.waits[self.board.place[request.request_id]] = waits
        self.count += 1 if waits else -1

    def add_request(self, request: Request) -> None:
        """Put a request behind the others."""
        if self.listed is not None:
            self.listed.append(request)
        self._mark(request, waits=True)

    def pop_request(self) -> Request:
        """Take the first."""
        first = self.items.pop(0)
        self._mark(first, waits=False)
        return first

    def peek_request(self) -> Request:
        """Look at the first."""
        return self.items[0]

    def prepend_request(self, request: Request) -> None:
        """Put a request in front."""
        self.items.insert(0, request)
        self._mark(request, waits=True)

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        """Put requests in front, the first given last."""
        for request in requests:
            self.prepend_request(request)

    def remove_request(self, request: Request) -> None:
        """Take a request out."""
        self.items.remove(request)
        self._mark(request, waits=False)

    def remove_requests(self, requests: Iterable[Request]) -> None:
        """Take requests out."""
        gone = set(requests).intersection(self.items)
        self.listed = [request for request in self.items if request not in gone]
        for request in gone:
            self._mark(request, waits=False)

    def __bool__(self) -> bool:
        """Say whether anybody waits."""
        return self.count > 0

    def __len__(self) -> int:
        """Return how many wait."""
        return self.count

    def __iter__(self) -> Iterator[Request]:
        """Return those who wait, in order."""
        return iter(list(self.items))

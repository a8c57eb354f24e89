"""vLLM's queue of waiting requests, in the order of a board: vLLM looks at the first, and takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vllm.v1.core.sched.request_queue import RequestQueue

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vllm.v1.request import Request

    from lapsbench.core import Longs
    from lapsbench.vllm.board import Board


class RankedQueue(RequestQueue):
    """The waiting requests; `arrange` puts them in order once a step."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.items: list[Request] = []

    def arrange(self, order: Longs) -> None:
        """Put those who wait in this order of places."""
        self.items = self.board.request[order[self.board.waits[order]]].tolist()

    def _mark(self, request: Request, *, waits: bool) -> None:
        self.board.waits[self.board.place[request.request_id]] = waits

    def add_request(self, request: Request) -> None:
        """Put a request behind the others."""
        self._mark(request, waits=True)
        self.items.append(request)

    def pop_request(self) -> Request:
        """Take the first."""
        self._mark(self.items[0], waits=False)
        return self.items.pop(0)

    def peek_request(self) -> Request:
        """Look at the first."""
        return self.items[0]

    def prepend_request(self, request: Request) -> None:
        """Put a request in front."""
        self._mark(request, waits=True)
        self.items.insert(0, request)

    def prepend_requests(self, requests: Iterable[Request]) -> None:
        """Put requests in front, the first given last."""
        for request in requests:
            self.prepend_request(request)

    def remove_request(self, request: Request) -> None:
        """Take a request out."""
        self._mark(request, waits=False)
        self.items.remove(request)

    def remove_requests(self, requests: Iterable[Request]) -> None:
        """Take requests out."""
        gone = set(requests)
        for request in gone.intersection(self.items):
            self._mark(request, waits=False)
        self.items = [request for request in self.items if request not in gone]

    def __bool__(self) -> bool:
        """Say whether anybody waits."""
        return bool(self.items)

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self.items)

    def __iter__(self) -> Iterator[Request]:
        """Return those who wait, in order."""
        return iter(list(self.items))

"""Who sits in which slot of the decoder's caches, and what those hold who were taken out and keep it.

A batch of rounds is the first slots, one after the other, as attention wants them: whoever begins or ends makes
somebody move. Whoever is taken out and keeps its keys and values has them copied to a place of their own size, so that
as many may be kept as memory has room for tokens, whatever the number of slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from lapsbench.decoding.network import Network


class Slots:
    """The slots of networks that serve together.

    Args:
        networks: target and draft, with as many slots each.
        cached: tells how many tokens of a request the caches hold.
    """

    def __init__(self, networks: Sequence[Network], cached: Callable[[int], int]) -> None:
        self.networks, self.cached = networks, cached
        self.holders: list[int | None] = [None] * networks[0].slots
        self.parked: dict[int, list[Tensor]] = {}
        self.copied_tokens = 0

    @property
    def seated(self) -> list[int]:
        """Requests that have a slot."""
        return [holder for holder in self.holders if holder is not None]

    def of(self, request: int) -> int:
        """Return the slot of a request that has one."""
        return self.holders.index(request)

    def seat(self, request: int) -> int:
        """Give a request a free slot, and what it kept; return the slot."""
        slot = self.holders.index(None)
        self.holders[slot] = request
        for store, kept in zip(
            self._stores(slot), self.parked.pop(request, ()), strict=False
        ):  # nothing was kept of most
            store[:, :, :, : kept.shape[3]] = kept
            self.copied_tokens += kept.shape[3]
        return slot

    def park(self, request: int) -> None:
        """Take a request out of its slot, and keep what it holds."""
        slot, tokens = self.of(request), self.cached(request)
        self.parked[request] = [store[:, :, :, :tokens].clone() for store in self._stores(slot)]
        self.copied_tokens += tokens
        self.holders[slot] = None

    def drop(self, request: int) -> None:
        """Forget what a request holds, wherever that is."""
        self.parked.pop(request, None)
        if request in self.holders:
            self.holders[self.of(request)] = None

    def front(self, requests: Sequence[int]) -> None:
        """Have the first slots be those of these requests, in whatever order, with as few moves as possible."""
        wanted = set(requests)
        behind = [slot for slot in range(len(wanted), len(self.holders)) if self.holders[slot] in wanted]
        for slot in range(len(wanted)):
            if self.holders[slot] not in wanted:
                self._exchange(slot, behind.pop())

    def _exchange(self, one: int, other: int) -> None:
        """Exchange what two slots hold; the second is somebody's."""
        tokens = [0 if (holder := self.holders[slot]) is None else self.cached(holder) for slot in (one, other)]
        for store, source in zip(self._stores(one), self._stores(other), strict=True):
            aside = store[:, :, :, : tokens[0]].clone()
            store[:, :, :, : tokens[1]] = source[:, :, :, : tokens[1]]
            source[:, :, :, : tokens[0]] = aside
        self.copied_tokens += sum(tokens)
        self.holders[one], self.holders[other] = self.holders[other], self.holders[one]

    def _stores(self, slot: int) -> Iterator[Tensor]:
        """Yield what each network holds of a slot, [layers, 2, heads, room, width]."""
        for network in self.networks:
            yield network.cache.states[:, :, slot]

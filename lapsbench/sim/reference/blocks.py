"""vLLM's KV memory in plain Python: blocks, and what a prefix cache finds of them again.

A block is free or one job's. A full block whose tokens are known is *named* by its job and its place there. Free blocks
without a name are all alike, so they are a number; they are taken first. Free named ones wait in the order they were
freed, a job's last block before its first, and the longest free is taken, and loses its name, when no other is left.
All prompts differ: nobody finds blocks but their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(eq=False)
class Block:
    """A KV block in use, or free with a name."""

    name: tuple[int, int] | None = None


@dataclass
class Holding:
    """The blocks of one job, in order, and how many of them, from the first, have a name."""

    blocks: list[Block] = field(default_factory=list)
    named: int = 0


class Memory:
    """All blocks of an engine."""

    def __init__(self, blocks: int, block_tokens: int, *, caching: bool) -> None:
        self.block_tokens, self.caching = block_tokens, caching
        self.nameless = blocks
        self.lru: dict[Block, None] = {}
        self.known: dict[tuple[int, int], list[Block]] = {}

    @property
    def free(self) -> int:
        """Free blocks."""
        return self.nameless + len(self.lru)

    def blocks_of(self, tokens: int) -> int:
        """Blocks that so many tokens take."""
        return -(-tokens // self.block_tokens)

    def found(self, request: int, most_tokens: int) -> list[Block]:
        """Return the blocks of a waiting job that can be found again, up to so many tokens: an unbroken row."""
        row: list[Block] = []
        for place in range(most_tokens // self.block_tokens if self.caching else 0):
            known = self.known.get((request, place))
            if not known:
                break
            row.append(known[0])
        return row

    def grow(self, holding: Holding, tokens: int) -> bool:
        """Give a job room for so many tokens in all; False, and nothing changes, where it is not there."""
        lack = self.blocks_of(tokens) - len(holding.blocks)
        if lack > self.free:
            return False
        holding.blocks += [self.take() for _ in range(lack)]
        return True

    def adopt(self, holding: Holding, row: list[Block]) -> None:
        """Give a job the blocks of its own that were found."""
        for block in row:
            del self.lru[block]
        holding.blocks, holding.named = list(row), len(row)

    def take(self) -> Block:
        """Take a free block; the one that was named longest ago only where all are."""
        if self.nameless:
            self.nameless -= 1
            return Block()
        block = next(iter(self.lru))
        del self.lru[block]
        self.forget(block)
        return block

    def forget(self, block: Block) -> None:
        """Take a block's name away."""
        if block.name is not None:
            self.known[block.name].remove(block)
            block.name = None

    def name(self, request: int, holding: Holding, tokens: int) -> None:
        """Name the full blocks among a job's first so many tokens; of two of one name the older is found."""
        if not self.caching:
            return
        for place in range(holding.named, tokens // self.block_tokens):
            block = holding.blocks[place]
            block.name = (request, place)
            self.known.setdefault(block.name, []).append(block)
        holding.named = max(holding.named, tokens // self.block_tokens)

    def release(self, holding: Holding) -> None:
        """Free a job's blocks, the last one first."""
        for block in reversed(holding.blocks):
            if block.name is None:
                self.nameless += 1
            else:
                self.lru[block] = None
        holding.blocks, holding.named = [], 0

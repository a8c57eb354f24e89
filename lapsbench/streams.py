"""Named random streams: every draw says which seed and which name it came from.

Two names never share numbers, so adding a draw somewhere moves no draw anywhere else; and the first n numbers of a
stream do not depend on how many are taken, so a limited trace sees what the whole trace saw.
"""

from __future__ import annotations

import hashlib

import numpy as np

from lapsbench.errors import UsageError


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the generator of `name` under `seed`.

    The name enters by its SHA-256, since Python's own `hash` differs from process to process.

    Raises:
        UsageError: the seed is negative.
    """
    if seed < 0:
        raise UsageError(f"seed {seed} is negative", where="--seed", hint="0 or a positive whole number")
    words = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype="<u4")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(int(word) for word in words)))

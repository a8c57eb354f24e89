"""What a profile says of itself: provenance, the sentence under every table, remarks for the screen."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from lapsbench.profile import device as devices
from lapsbench.profile.clock import clock_name
from lapsbench.profile.neighbours import BUSY, pooled
from lapsbench.profile.parts import IDENTITY

if TYPE_CHECKING:
    import torch

    from lapsbench.core import Bank
    from lapsbench.profile.clock import Timing
    from lapsbench.profile.costing import Costing
    from lapsbench.profile.grid import Point
    from lapsbench.profile.parts import Parts
    from lapsbench.profile.plan import Pair
    from lapsbench.profile.wanted import Wanted


class Account:
    """Tells how a profile was measured.

    Args:
        wanted: the command.
        pair: both models.
        parts: what was kept along the way.
        costing: the finished cost table.
        device: what was measured on.
        dtype: of weights and caches.
    """

    def __init__(
        self, wanted: Wanted, pair: Pair, parts: Parts, costing: Costing, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.wanted = wanted
        self.pair = pair
        self.parts = parts
        self.costing = costing
        self.device = device
        self.dtype = dtype
        self.rows = dict(costing.rows())

    def provenance(self, bank: Bank | None) -> dict[str, Any]:
        """Return all there is to say; measures what only the provenance needs."""
        wanted, parts, costing, grid = self.wanted, self.parts, self.costing, self.costing.grid
        drift = costing.drift()
        unsettled = sum(not timing.settled for timing in self.rows.values())
        found: dict[str, Any] = {
            "source": "lapsbench profile",
            "command": wanted.command,
            IDENTITY: parts.identity,
            **{name: parts.identity[name] for name in ("device", "dtype", "torch", "transformers", "seed")},
            "clock": clock_name(self.device),
            "grid": {"batches": grid.batches, "contexts": grid.axes.contexts, "draft_tokens": grid.draft_tokens}
            | ({"rounds": grid.rounds, "chunks": grid.chunks} if grid.mixed else {}),
            "left_out": list(grid.left_out),
            "budget": {"seconds": wanted.budget_s, "spent_s": costing.spent_s, "points_skipped": costing.skipped},
            "points": {"measured": len(self.rows), "unsettled": unsettled},
            "drift": drift,
            "neighbours": pooled(parts.of("point")),
            "round_over_parts": costing.round_over_parts(),
            "weights_bytes": costing.sizes.weights_bytes,
            "copy_bytes_per_s": parts.fact("copy_bytes_per_s"),
            "verify_1_over_weights_read": self._over_floor(),
            "acceptance": {name: parts.fact(name) for name in ("too_long", "reconciliation")} if bank else None,
            "started": parts.fact("started"),
            "finished": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "state_before": parts.fact("state_before"),
            "state_after": devices.state(self.device),
        }
        if self.device.type == "cuda" and not wanted.eager:
            found["eager_over_graphs"] = parts.keep_fact("eager_over_graphs", self._eager)
        found["label"] = self._label(found)
        found["remarks"] = self._remarks(found)
        return found

    def _label(self, found: dict[str, Any]) -> str:
        draft = self.pair.seats.draft.label
        remarks = [f"draft {draft}"] if "(" in draft else []
        if self.pair.target.random:
            remarks.append(f"target {self.pair.target.label}")
        if busy := _busy(found["neighbours"]):
            remarks.append(busy)
        if found["drift"]["drifted"]:
            remarks.append(_drifted(found["drift"]))
        return devices.label(self.device, self.dtype, remarks)

    def _remarks(self, found: dict[str, Any]) -> list[str]:
        """Say what a reader of the numbers must know."""
        costing, remarks = self.costing, list[str]()
        if costing.resumed:
            remarks.append(f"resumed: {costing.resumed} of {len(costing.timings)} points were measured before")
        remarks += [f"left out, for want of memory: {each}" for each in costing.grid.left_out]
        if reconciliation := self.parts.fact("reconciliation"):
            remarks.append(f"recording and decoder agree: {reconciliation['text']}")
        if too_long := self.parts.fact("too_long"):
            remarks.append(f"left out: {len(too_long)} prompts longer than the models have room for")
        if costing.skipped:
            remarks.append(f"left out by --budget-s: {costing.skipped} of the finer grid's points")
        unsettled, measured = found["points"]["unsettled"], found["points"]["measured"]
        if unsettled:
            remarks.append(f"{unsettled} of {measured} points did not settle within 2 %: p10 and p90 tell how far")
        if busy := _busy(found["neighbours"]):
            remarks.append(f"{busy}: times may be longer than on a quiet machine")
        if found["drift"]["drifted"]:
            remarks.append(f"drift: {_drifted(found['drift'])}: do not trust smaller differences")
        return remarks

    def _over_floor(self) -> float:
        """Return the quickest plain step of batch 1 over the time that reading all weights takes at copy speed."""
        steps = [each for each in self.rows if each.component == "verify" and each.query_tokens == 1]
        smallest = min(steps, key=lambda each: (each.batch_size, each.context_tokens))
        floor_s = self.costing.sizes.weights_bytes / self.parts.fact("copy_bytes_per_s")
        return float(self.rows[smallest].median_s / floor_s)

    def _eager(self) -> dict[str, float]:
        """Return how much longer the smallest steps take without captured graphs."""
        found = {}
        for component in ("draft", "verify"):
            point: Point = min(each for each in self.rows if each.component == component)
            eager: Timing = self.costing.bench.measure(point, self.costing.grid, eager=True)
            found[component] = eager.median_s / self.rows[point].median_s
        return found


def _busy(neighbours: dict[str, float] | None) -> str | None:
    """Say who else used the machine, where it is worth saying."""
    if neighbours is None or max(neighbours["others"], neighbours["stolen"]) < BUSY:
        return None
    texts = {"others": "others used", "stolen": "the host took"}
    told = [f"{texts[name]} {neighbours[name]:.0%}" for name in texts if neighbours[name] >= BUSY]
    return f"{' and '.join(told)} of the machine's processors meanwhile"


def _drifted(drift: dict[str, Any]) -> str:
    worst = drift["worst"]
    what = f"{worst['component']} at batch {worst['batch_size']} by {100 * drift['change']:+.0f} %"
    return f"{drift['far']} of {drift['points']} points measured again at the end differed by more than 10 %, {what}"

"""What a server learns from a profile: `python -m lapsbench.vllm.calibrate`, a process of its own.

The simulator's compiled kernel and vLLM in one process crash when vLLM rebinds its kernels, and a server that was given
no profile should need neither polars nor pyarrow. The answer comes back as a NumPy archive.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lapsbench.core import CALIBRATION, Engine
from lapsbench.errors import LapsbenchError
from lapsbench.policies.predictors import CLASS_LIMITS, MEAN_TOKENS
from lapsbench.policies.uses import reads
from lapsbench.sim.cost import DRAFT_PREFILL, PREFILL
from lapsbench.sim.interpolation import along

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lapsbench.core import Floats, Longs, Policy
    from lapsbench.sim.cost import StepCosts
    from lapsbench.sim.setup import Setup
    from lapsbench.vllm.options import Options

CLASSES = len(CLASS_LIMITS) + 1


@dataclass(frozen=True)
class Learnt:
    """What was learnt.

    Attributes:
        system: `core.SYSTEM`, one record.
        mean_tokens: mean output of the calibration sample; NaN where there is none.
        class_tokens: the same of each length class.
        prefill_s: time to prefill a prompt of so many tokens alone; empty where no profile says.
        resume_s: what taking out a request with so many tokens computed costs when it resumes; empty where no profile
            says, or the policy does not ask.
        token_s: engine time of a predicted token; 0 where no profile says.
        categories: those of the profile's prompts, in the order of their numbers.
    """

    system: NDArray[np.void]
    mean_tokens: float
    class_tokens: Floats
    prefill_s: Floats
    resume_s: Floats = field(default_factory=lambda: np.zeros(0))
    token_s: float = 0.0
    categories: tuple[str, ...] = ()


def unlearnt(system: NDArray[np.void]) -> Learnt:
    """Return what is known without a profile; the means of the classes are those of their published predictor."""
    return Learnt(system, np.nan, np.array(MEAN_TOKENS), np.zeros(0))


def told(policy: Policy, setup: Setup, engine: Engine, costs: StepCosts | None, longest: int) -> Learnt:
    """Return what a replay's policy knows: requests bring all else themselves."""
    resume_s = _resume_s(engine, costs, longest) if costs and reads(policy, "resume_s") else np.zeros(0)
    return replace(unlearnt(setup.system), resume_s=resume_s, token_s=setup.token_s)


def learn(options: Options, engine: Engine, longest: int) -> Learnt:
    """Ask a process of its own what the policy learns from the profile, for prompts of up to `longest` tokens.

    Raises:
        LapsbenchError: it cannot be read, or is not enough.
    """
    ask = {
        "policy": options.spec,
        "profile": options.profile,
        "predict": options.predict,
        "calibration": options.calibration,
        "engine": asdict(engine),
        "longest": longest,
    }
    command = [sys.executable, "-m", "lapsbench.vllm.calibrate", json.dumps(ask)]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - ourselves
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise LapsbenchError(lines[-1] if lines else f"calibration ended with {done.returncode}")
    found = np.load(io.BytesIO(done.stdout))
    return Learnt(
        system=found["system"],
        mean_tokens=float(found["mean_tokens"]),
        class_tokens=found["class_tokens"],
        prefill_s=found["prefill_s"],
        resume_s=found["resume_s"],
        token_s=float(found["token_s"]),
        categories=tuple(found["categories"].tolist()),
    )


def _learnt(ask: dict[str, Any]) -> dict[str, Any]:
    """Calibrate, as a replay does."""
    from lapsbench.policies.predictors import parse_predictor  # noqa: PLC0415 - this process alone needs them
    from lapsbench.policies.registry import find  # noqa: PLC0415
    from lapsbench.scenario import Scenario  # noqa: PLC0415
    from lapsbench.sim.cost import step_costs  # noqa: PLC0415
    from lapsbench.sim.prepare import calibration  # noqa: PLC0415
    from lapsbench.sim.setup import system_of, token_s_of  # noqa: PLC0415
    from lapsbench.store.profile import open_profile  # noqa: PLC0415
    from lapsbench.traces import open_trace  # noqa: PLC0415

    engine, policy = Engine(**ask["engine"]), find(ask["policy"])
    profile = open_profile(ask["profile"])
    history = open_trace(ask["calibration"]) if ask["calibration"] else None
    costs = step_costs(profile, engine)
    predictor = parse_predictor(ask["predict"] or Scenario.model_fields["predict"].default)
    sample = calibration(profile, engine, predictor, costs, history)
    if sample is None and (CALIBRATION in policy.knows or policy.calibrate):
        what = f"{policy.name} learns from a calibration sample, and the profile has no acceptance to take one from"
        raise LapsbenchError(what, where=ask["profile"], hint='"calibration": a trace')
    mean, classes = np.nan, np.array(MEAN_TOKENS)
    if sample is not None:
        tokens = 1.0 + sample.rounds * sample.mean_tokens_per_round  # the first comes with the prompt
        mean = float(tokens.mean())
        for number in range(CLASSES):
            mine = sample.predicted_class == number
            classes[number] = tokens[mine].mean() if mine.any() else mean
    return {
        "system": system_of(engine, policy, sample),
        "mean_tokens": mean,
        "class_tokens": classes,
        "prefill_s": _prefill_s(engine, costs, ask["longest"]),
        "resume_s": _resume_s(engine, costs, ask["longest"]) if reads(policy, "resume_s") else np.zeros(0),
        "token_s": token_s_of(engine, sample),
        "categories": np.unique(profile.bank.category.astype(str)) if profile.bank else np.zeros(0, str),
    }


def _resume_s(engine: Engine, costs: StepCosts, longest: int) -> Floats:
    """Return what taking out a request with 0, 1, 2, ... tokens computed costs: `sim/weighing.py` says how."""
    done = np.arange(longest + 1)
    kept = np.maximum(done - 1, 0) // engine.block_tokens * engine.block_tokens if engine.prefix_cache else 0 * done
    again_s = _chunk_s(costs, PREFILL, done - kept, kept)
    if engine.draft_tokens > 0:
        again_s += _chunk_s(costs, DRAFT_PREFILL, done - kept, kept)
    again_s[0] = 0.0
    return again_s * (engine.on_preempt != "keep")


def _chunk_s(costs: StepCosts, component: int, tokens: Longs, cached: Longs) -> Floats:
    """Price prefill chunks: along cached tokens first, then along new ones."""
    knots, lines = costs.query, along(costs.cached, costs.chunk_s[component].T, cached.astype(np.float64))
    if len(knots) == 1:
        return np.maximum(lines[:, 0], 0.0)
    each, segment = np.arange(len(tokens)), np.clip(np.searchsorted(knots, tokens, "right") - 1, 0, len(knots) - 2)
    fraction = np.maximum((tokens - knots[segment]) / (knots[segment + 1] - knots[segment]), 0.0)
    below, above = lines[each, segment], lines[each, segment + 1]
    return np.maximum(below + fraction * (above - below), 0.0)


def _prefill_s(engine: Engine, costs: Any, longest: int) -> Floats:
    """Return what prompts of 0, 1, 2, ... tokens cost, as replayed policies see it."""
    from lapsbench.core import Workload  # noqa: PLC0415
    from lapsbench.sim.alone import solo  # noqa: PLC0415

    n = longest + 1
    prompts, none, ones = np.maximum(np.arange(n, dtype=np.int32), 1), np.zeros(n, np.int32), np.ones(n, np.int32)
    work = Workload(
        arrival_s=np.zeros(n),
        prompt_tokens=prompts,
        output_tokens=ones,
        predicted_tokens=np.ones(n),
        predicted_class=none,
        client=none,
        clients=1,
        recording_start=none.astype(np.int64),
        recording_tokens=ones,
        recording_shift=none,
        accept_runs=np.zeros(1, np.uint8),
    )
    return solo(work, engine, costs).prefill_s


def main() -> None:
    """Answer on standard output; say what is wrong in one line."""
    try:
        found = _learnt(json.loads(sys.argv[1]))
    except LapsbenchError as error:
        sys.exit(str(error))
    except ModuleNotFoundError as error:
        sys.exit(f"reading a profile needs {error.name}, which is not installed here; try pip install {error.name}")
    answer = io.BytesIO()
    np.savez(answer, **found)
    sys.stdout.buffer.write(answer.getvalue())


if __name__ == "__main__":
    main()

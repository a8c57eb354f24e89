"""Where a run's numbers come from: the command, versions, device, seeds and hashes, from its manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lapsbench.report.units import count

if TYPE_CHECKING:
    from lapsbench.reading import Run


def provenance(run: Run) -> list[tuple[str, str]]:
    """Return what to write down, as name and text."""
    part = run.saved.part
    profile = part("profile", "provenance")
    seeds = sorted({cell.seed for cell in run.result.cells})
    versions = ", ".join(f"{name} {version}" for name, version in sorted(part("versions").items()))
    rows = [
        ("command", _command(run)),
        ("lapsbench", f"{part('lapsbench')}, with {versions}"),
        ("numbers", f"{_numbers(run)}; the profile: {run.result.provenance}"),
        ("device", _words(profile.get("device"))),
        ("models", _words(profile.get("models"))),
        ("profile", f"{part('profile', 'name')}, hash {part('profile', 'sha256_32')}"),
        ("its source", _words(profile.get("source"))),
        ("trace", f"{part('trace', 'name')}, {count(part('trace', 'requests'), 'request')}"),
        ("its hash", part("trace", "sha256_32")),
        ("its source", _source(part("trace", "provenance"))),
        ("seeds", ", ".join(map(str, seeds))),
        ("predictions", part("predict")),
        ("capacity", f"{part('capacity_rps'):.4g} req/s: what a load is a fraction of"),
    ]
    return [(name, text) for name, text in rows if text]


def _numbers(run: Run) -> str:
    if not run.result.executed:
        return "replayed on step costs"
    told = run.saved.manifest["executed"]
    return f"executed on {run.result.executed}, {told.get('device')}, acceptance {told.get('acceptance')}"


def _command(run: Run) -> str:
    """Return the command as it is typed today: ideal was the default once."""
    command = str(run.saved.part("command"))
    return command if run.result.rules != "ideal" or "--engine" in command else f"{command} --engine ideal"


def _source(trace: dict[str, Any]) -> str:
    recipe = trace.get("recipe")
    source = recipe.get("source") if isinstance(recipe, dict) else trace.get("source") or trace.get("file")
    return "; ".join(word for word in (_words(trace.get("label")), _words(source)) if word)


def _words(value: object) -> str:
    """Write a JSON value as text: profiles of other makers may say anything."""
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    return str(value)

"""`lapsbench traces`: list, get, describe, convert, make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lapsbench.cli.console import check_target, laid_out, progress_bar, remark, show
from lapsbench.errors import UsageError

traces = typer.Typer(name="traces", help="List, fetch, describe, convert and make traces.", no_args_is_help=True)

_SOURCE = typer.Argument(metavar="NAME|PATH|-", help="A shipped or fetched trace, a file or pipe; - for stdin.")
_COLUMNS = typer.Option(metavar="arrival=ts,prompt=in,output=out", help="Which columns hold what.")
_LIKE_COLUMNS = typer.Option(metavar="prompt=in,output=out", help="Which columns of --like hold what.")
_UNIT = typer.Option(metavar="s|ms|us|ns|min|h", help="Of the arrivals, instead of the format's.")
_FAILED = typer.Option(metavar="drop|keep", help="Requests without output; kept, they ask for one token.")
_FORCE = typer.Option("--force", help="Write over a file that is there.")
_LIMIT = typer.Option(metavar="N", min=1, help="Only the first N requests.")
_JSON = typer.Option("--json", metavar="PATH|-", help="Write it as JSON; - for stdout.")
_QUIET = typer.Option("--quiet", "-q", help="No progress, no remarks.")


@traces.command(name="list")
def list_traces(json_to: Annotated[str | None, _JSON] = None) -> None:
    """List the shipped traces, and the public ones that `get` fetches."""
    check_target(json_to)
    rows = [*_shipped(), *_catalogue()]
    show({"schema": "lapsbench.traces/1", "traces": rows}, json_to, laid_out(rows))


def _shipped() -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    from lapsbench import resources

    folder = resources.shipped("traces")
    paths = [folder / f"{name}.parquet" for name in resources.names("traces")]
    return [
        {
            "name": path.stem,
            "where": "shipped",
            "rows": pq.read_metadata(path).num_rows,
            "bytes": path.stat().st_size,
            "licence": "Apache-2.0",
            "sha256": None,
            "about": "generated after azure's figures of 2023, not recorded",
        }
        for path in paths
    ]


def _catalogue() -> list[dict[str, Any]]:
    from lapsbench.traces.catalog import CATALOG, cached

    return [
        {
            "name": entry.name,
            "where": "here" if cached(entry).is_file() else "to get",
            "rows": entry.rows,
            "bytes": entry.size_bytes,
            "licence": entry.licence,
            "sha256": entry.sha256[:8] if entry.sha256 else None,
            "about": entry.about,
        }
        for entry in CATALOG.values()
    ]


@traces.command()
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of `lapsbench traces list`.")],
    quiet: Annotated[bool, _QUIET] = False,
) -> None:
    """Fetch a public trace; then its name works for --trace. LAPSBENCH_MIRROR is a URL to fetch from instead."""
    from lapsbench.traces.catalog import CATALOG
    from lapsbench.traces.fetch import fetch, sha256, url_of

    if name not in CATALOG:
        raise UsageError(f"unknown trace {name!r}", where="traces get", hint=f"one of: {', '.join(CATALOG)}")
    entry = CATALOG[name]
    with progress_bar(quiet=quiet) as bar:
        task = bar.add_task(f"fetching {entry.file}", total=entry.size_bytes)
        path = fetch(entry, lambda done, total: bar.update(task, completed=done, total=total))
    remark([f"{name}: {entry.licence}, from {url_of(entry)}"], quiet=quiet)
    if entry.sha256 is None:
        remark([f"its sha256 is not known beforehand; this one has {sha256(path)}"], quiet=quiet)
    typer.echo(str(path))


@traces.command()
def describe(
    source: Annotated[str, _SOURCE],
    columns: Annotated[str | None, _COLUMNS] = None,
    time_unit: Annotated[str | None, _UNIT] = None,
    failed: Annotated[str, _FAILED] = "drop",
    limit: Annotated[int | None, _LIMIT] = None,
    json_to: Annotated[str | None, _JSON] = None,
    quiet: Annotated[bool, _QUIET] = False,
) -> None:
    """Show a trace: rate, bursts, lengths, the heaviest minute, a sketch of the rate over time."""
    from lapsbench.cli.traces_text import text
    from lapsbench.traces import open_trace
    from lapsbench.traces.description import describe as measured
    from lapsbench.traces.description import to_json

    check_target(json_to)
    trace = open_trace(source, limit=limit, columns=columns, time_unit=time_unit, failed=failed)
    found = measured(trace)
    remark(trace.notes, quiet=quiet)
    show(to_json(found), json_to, text(found))


@traces.command()
def convert(
    source: Annotated[str, _SOURCE],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A file: .parquet, .csv or .jsonl.")],
    columns: Annotated[str | None, _COLUMNS] = None,
    time_unit: Annotated[str | None, _UNIT] = None,
    failed: Annotated[str, _FAILED] = "drop",
    limit: Annotated[int | None, _LIMIT] = None,
    force: Annotated[bool, _FORCE] = False,
    quiet: Annotated[bool, _QUIET] = False,
) -> None:
    """Read a trace of any known format and write it in ours."""
    from lapsbench.traces import open_trace
    from lapsbench.traces.save import refuse_existing, refuse_suffix, write_trace

    refuse_suffix(out)
    if not force:
        refuse_existing(out)
    trace = open_trace(source, limit=limit, columns=columns, time_unit=time_unit, failed=failed)
    remark([*trace.notes, f"{len(trace):,} requests"], quiet=quiet)
    write_trace(trace, out)
    typer.echo(str(out))


@traces.command()
def make(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A file: .parquet, .csv or .jsonl.")],
    like: Annotated[str, typer.Option(metavar="NAME|PATH", help="Whose lengths, rate and clients.")] = "chat",
    columns: Annotated[str | None, _LIKE_COLUMNS] = None,
    rate: Annotated[float | None, typer.Option(metavar="R", help="Requests per second (that of --like).")] = None,
    requests: Annotated[int | None, typer.Option(metavar="N", help="How many (5000).")] = None,
    duration: Annotated[float | None, typer.Option(metavar="S", help="Or as many as come in S seconds.")] = None,
    arrivals: Annotated[
        str | None,
        typer.Option(
            metavar="PROCESS", help="poisson, gamma:cv=3, on-off:on=10,off=20 or diurnal:period=86400,depth=0.8."
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(metavar="LENGTHS", help="lognormal:median=800,sigma=1, quantiles:16,400,8000 or resample:PATH."),
    ] = None,
    output: Annotated[str | None, typer.Option(metavar="LENGTHS", help="As --prompt.")] = None,
    clients: Annotated[str | None, typer.Option(metavar="N|SHARES", help="4, or their shares: 5,1,1.")] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Of all draws.")] = 0,
    force: Annotated[bool, _FORCE] = False,
    quiet: Annotated[bool, _QUIET] = False,
) -> None:
    """Make a trace to order, such as chat at 12 requests/s in bursts: --rate 12 --arrivals gamma:cv=3."""
    from lapsbench.traces.make import Order
    from lapsbench.traces.make import make as made
    from lapsbench.traces.save import refuse_existing, refuse_suffix, write_trace

    refuse_suffix(out)
    if not force:
        refuse_existing(out)
    order = Order(
        like=like,
        columns=columns,
        rate_rps=rate,
        requests=requests,
        duration_s=duration,
        arrivals=arrivals,
        prompt=prompt,
        output=output,
        clients=clients,
        seed=seed,
    )
    trace = made(order)
    remark([*trace.notes, f"{len(trace):,} requests over {trace.span_s:,.6g} s, generated"], quiet=quiet)
    write_trace(trace, out)
    typer.echo(str(out))

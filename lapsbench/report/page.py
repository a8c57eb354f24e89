"""One self-contained HTML page: words and tables as HTML, plots as Vega-Lite with its JavaScript beside them.

Nothing is fetched, when it is made or when it is viewed; the same run gives the same bytes.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import jinja2
import vl_convert
from markupsafe import Markup

from lapsbench.report.document import view
from lapsbench.report.plots import sections
from lapsbench.report.side_by_side import side_by_side

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lapsbench.report.plots import Subject
    from lapsbench.report.table_columns import Column


def page(subjects: Sequence[Subject]) -> str:
    """Return the page of one or several runs."""
    views = [view(each.run) for each in subjects]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lapsbench.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["spec"] = _spec
    environment.globals.update(cell_class=_cell_class, exact=_exact)
    template = environment.get_template("page.html.j2")
    return template.render(
        views=views,
        several=len(views) > 1,
        beside=side_by_side([each.run for each in subjects]) if len(views) > 1 else None,
        sections=list(sections(subjects)),
        style=Markup(_template("page.css")),  # noqa: S704 - our own file
        script=_script(),
    )


def _template(name: str) -> str:
    return (files("lapsbench.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _script() -> Markup:
    """Bundle our script with Vega's code; it takes two seconds."""
    return Markup(vl_convert.javascript_bundle(_template("page.js")))  # noqa: S704 - Vega's code, and ours


def _spec(spec: object) -> Markup:
    """Write JSON that no name in it can end the script of."""
    text = json.dumps(spec, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))  # noqa: S704 - escaped just now


def _cell_class(column: Column, row: int) -> str:
    words = ["text"] if column.left else []
    words += ["best"] if row in column.best else []
    words += ["faint"] if column.faint else []
    return " ".join(words)


def _exact(value: float | None) -> str:
    """Write a number to its last digit; nothing where it is undefined."""
    return "" if value is None else repr(value)

"""A file of any format of one row a request, without its arrivals: for `traces make --like`, which draws them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lapsbench.traces import clock
from lapsbench.traces.columns import Columns
from lapsbench.traces.frame import read_table
from lapsbench.traces.readers.log import requests
from lapsbench.traces.readers.reader import Reader

if TYPE_CHECKING:
    from lapsbench.core import Trace
    from lapsbench.traces.readers.reader import Failed
    from lapsbench.traces.source import Source


def lengths_of(reader: Reader) -> Reader:
    """Return what reads the tokens of such a file; everybody is there from the start."""
    prompt, output = reader.tokens
    columns = Columns("", prompt, output)

    def read(source: Source, failed: Failed) -> Trace:
        table = read_table(source, reader.tokens, ())
        arrivals = clock.Arrivals(np.zeros(table.frame.height))
        return requests(table, f"lengths ({reader.name})", columns, arrivals, failed)

    return Reader(reader.name, reader.containers, reader.tokens, (), read)

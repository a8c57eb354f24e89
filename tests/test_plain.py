"""Our own Parquet, read from Arrow alone: the same as through polars, which is left to say what is odd."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import lapsbench

from lapsbench import resources
from lapsbench.traces.plain import read_plain
from lapsbench.traces.readers import native
from lapsbench.traces.source import inspect

COLUMNS = {
    "arrival_s": [3.5, 0.25, 2.0],
    "prompt_tokens": pa.array([1, 2, 3], pa.int32()),
    "output_tokens": pa.array([3, 2, 1], pa.int64()),
    "category": ["a", None, "ß"],
    "client_id": [None, None, None],
    "prompt_id": ["", "x", "x"],
    "predicted_tokens": [1.0, 2.5, 9e9],
    "priority": pa.array([-1, 0, 7], pa.int32()),
}
ODD = {
    "a value missing": {"arrival_s": [0.0, None, 1.0]},
    "negative": {"arrival_s": [0.0, -1.0, 1.0]},
    "a stamp of 1970 on": {"arrival_s": [1.7e9, 1.7e9 + 1, 1.7e9 + 2]},
    "no token": {"output_tokens": [0, 1, 1]},
    "text": {"prompt_tokens": ["1", "2", "3"]},
    "not a number": {"predicted_tokens": [1.0, float("nan"), 2.0]},
    "a priority missing": {"priority": pa.array([1, None, 2], pa.int32())},
}


def written(path, columns):
    table = pa.table(
        {name: pa.array(values) if isinstance(values, list) else values for name, values in columns.items()}
    )
    if table["client_id"].type == pa.null():
        table = table.set_column(4, "client_id", table["client_id"].cast(pa.string()))
    pq.write_table(table, path)
    return inspect(path)


def alike(one, other):
    for each in fields(one):
        first, second = getattr(one, each.name), getattr(other, each.name)
        same = np.array_equal(first, second) if isinstance(first, np.ndarray) else first == second
        assert same, (each.name, first, second)
        assert getattr(first, "dtype", None) == getattr(second, "dtype", None), each.name


@pytest.mark.parametrize("name", resources.names("traces"))
def test_a_shipped_trace_is_read_the_same_both_ways(name):
    source = inspect(resources.shipped("traces") / f"{name}.parquet")
    alike(read_plain(source), native.READER.read(source, "drop"))


def test_every_column_is_read_the_same_both_ways(tmp_path):
    source = written(tmp_path / "all.parquet", COLUMNS)
    alike(read_plain(source), native.READER.read(source, "drop"))


@pytest.mark.parametrize("odd", ODD)
def test_what_is_odd_is_left_to_who_says_what_it_is(tmp_path, odd):
    assert read_plain(written(tmp_path / "odd.parquet", COLUMNS | ODD[odd])) is None


def test_a_bad_row_is_named_as_ever(tmp_path):
    written(tmp_path / "bad.parquet", COLUMNS | ODD["negative"])
    done = lapsbench("traces describe bad.parquet", tmp_path)
    assert (done.code, done.err) == (
        1,
        "error: bad.parquet, row 2, column 'arrival_s': -1.0 is negative; try values from 0 up\n",
    )

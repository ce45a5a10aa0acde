"""Values that Parquet and Python hold in different ways: whole numbers beside others, times finer than microseconds."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import numpy as np
import pytest

from longspan.cli.files.inputs import find_inputs
from longspan.cli.files.parquet import write_rows
from longspan.cli.files.readers import read_records
from longspan.cli.files.records import Record, Selection

pyarrow = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.mark.parametrize(
    "values, kind, read",
    [
        ([1, 2.5], "double", [1.0, 2.5]),
        ([2**53, 0.5], "double", [2.0**53, 0.5]),
        ([2**53 + 1, 0.5], "string", [str(2**53 + 1), "0.5"]),  # 9007199254740993 is no float
        ([-(2**53) - 1, 1, None, 0.5], "string", [str(-(2**53) - 1), "1", None, "0.5"]),
        ([2**53 + 1, 7], "int64", [2**53 + 1, 7]),
        ([2**63 - 1, -(2**63)], "int64", [2**63 - 1, -(2**63)]),
        ([2**63, 1], "string", [str(2**63), "1"]),
        ([True, 1], "string", ["true", "1"]),
    ],
)
def test_no_whole_number_is_lost(tmp_path: Path, values: list[object], kind: str, read: list[object]) -> None:
    kept = [json.dumps({"n": value}) for value in values]
    rows = np.zeros((len(values), 2), np.float32)
    write_rows(tmp_path / "x.parquet", [(0, rows, kept)], kept, ["n"])
    table = pq.read_table(tmp_path / "x.parquet")
    assert str(table.schema.field("n").type) == kind and table["n"].to_pylist() == read


def kept(path: Path, *keep: str) -> list[dict[str, object]]:
    found = list(read_records(find_inputs([str(path)]), Selection(keep=keep)))
    assert all(isinstance(row, Record) for row in found), found
    return [json.loads(row.kept) for row in found]


def test_times_of_nanoseconds(tmp_path: Path) -> None:
    """Those that are whole microseconds are as ever; finer ones are text, and stop no run."""
    text, fine, whole = ["a", "b"], [1_600_000_000_123_456_789, None], [1_600_000_000_123_456_000, 0]
    utc, nested = pyarrow.timestamp("ns", "UTC"), pyarrow.struct([("at", pyarrow.timestamp("ns"))])
    columns = {
        "text": text,
        "fine": pyarrow.array(fine, pyarrow.timestamp("ns")),
        "whole": pyarrow.array(whole, pyarrow.timestamp("ns")),
        "zoned": pyarrow.array(fine, utc),
        "time": pyarrow.array([3_600_000_000_001, 0], pyarrow.time64("ns")),
        "took": pyarrow.array([1_000_000_001, 5], pyarrow.duration("ns")),
        "whole_took": pyarrow.array([1_000_000_000, 0], pyarrow.duration("ns")),
        "nested": pyarrow.array([[{"at": fine[0]}], []], pyarrow.list_(nested)),
    }
    pq.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    first, second = kept(tmp_path / "x.parquet", *list(columns)[1:])
    assert first["fine"] == "2020-09-13 12:26:40.123456789" and second["fine"] is None
    assert first["whole"] == datetime.datetime(2020, 9, 13, 12, 26, 40, 123456).isoformat()
    assert str(first["zoned"]).startswith("2020-09-13 12:26:40.123456789")
    assert (first["time"], second["time"]) == ("01:00:00.000000001", "00:00:00.000000000")
    assert (first["took"], second["took"]) == (1_000_000_001, 5) and first["whole_took"] == "0:00:01"
    assert first["nested"] == [{"at": "2020-09-13 12:26:40.123456789"}] and second["nested"] == []

"""Vectors as a Parquet file: columns table, column, text, vector (a list of fixed size), and its schema's metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from longspan.own_files import written_aside
from longspan.relations.result import Retrofitted
from longspan.relations.stores.state import to_state

_ROWS_AT_A_TIME: Final = 1 << 14


def save(result: Retrofitted, path: Path) -> None:
    """Write it, aside first. ImportError where pyarrow is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f"Parquet is an extra: pip install 'longspan[parquet]' ({error})") from error
    dim = result.vectors.shape[1]
    fields = [("table", pyarrow.string()), ("column", pyarrow.string()), ("text", pyarrow.string())]
    schema = pyarrow.schema(
        [*fields, ("vector", pyarrow.list_(pyarrow.float32(), dim))], metadata={"longspan": to_state(result)[0]}
    )
    names = ["table", "column", "text"]
    with (
        written_aside(path) as aside,
        pyarrow.parquet.ParquetWriter(aside, schema, use_dictionary=names[:2]) as writer,
    ):
        for start in range(0, len(result.nodes), _ROWS_AT_A_TIME):
            nodes = result.nodes[start : start + _ROWS_AT_A_TIME]
            flat = pyarrow.array(np.ascontiguousarray(result.vectors[start : start + len(nodes)]).reshape(-1))
            columns = [pyarrow.array(column, pyarrow.string()) for column in zip(*nodes)]
            columns.append(pyarrow.FixedSizeListArray.from_arrays(flat, dim))
            writer.write_table(pyarrow.table(dict(zip([*names, "vector"], columns)), schema=schema))

"""An index's rows as Parquet, by pyarrow, which the extra `longspan[parquet]` brings.

Columns id (int64), code (fixed-size binary) and, where stored, vector (fixed-size list) and scale (float); the
file's metadata hold dim, store and the centres.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Final

import numpy as np

from longspan.errors import IndexFileError
from longspan.search.rows import Rows, Store

if TYPE_CHECKING:
    import pyarrow

_KEY: Final = b"longspan"


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("Parquet needs pyarrow: pip install 'longspan[parquet]'") from error
    return pyarrow, pyarrow.parquet


def write(
    file: IO[bytes], blocks: Iterator[Rows], dim: int, store: Store, centers: Mapping[str, np.ndarray | None]
) -> None:
    """Write `blocks`, a row group each."""
    pa, pq = _pyarrow()
    like = Rows.empty(0, dim, store)
    fields = [pa.field("id", pa.int64()), pa.field("code", pa.binary(like.codes.shape[1]))]
    if like.vectors is not None:
        fields.append(pa.field("vector", pa.list_(pa.from_numpy_dtype(like.vectors.dtype), dim)))
    if like.scales is not None:
        fields.append(pa.field("scale", pa.float32()))
    about = {"dim": dim, "store": store}
    listed = {name: None if center is None else center.tolist() for name, center in centers.items()}
    schema = pa.schema(fields, metadata={_KEY: json.dumps({**about, **listed}).encode()})
    with pq.ParquetWriter(file, schema, use_dictionary=False) as writer:
        for rows in blocks:
            data = pa.py_buffer(np.ascontiguousarray(rows.codes).tobytes())
            columns = [
                pa.array(rows.ids),
                pa.FixedSizeBinaryArray.from_buffers(fields[1].type, len(rows), [None, data]),
            ]
            if rows.vectors is not None:
                columns.append(pa.FixedSizeListArray.from_arrays(pa.array(rows.vectors.reshape(-1)), dim))
            if rows.scales is not None:
                columns.append(pa.array(rows.scales))
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def read(path: Path) -> tuple[tuple[int, str], dict[str, np.ndarray]]:
    """(dim, store) and the columns by their names in `Rows`, and centres. IndexFileError for any other file."""
    pa, pq = _pyarrow()
    try:
        table = pq.read_table(path)
        about = json.loads(table.schema.metadata[_KEY])
        dim, store = int(about["dim"]), str(about["store"])
        arrays = {"ids": table["id"].to_numpy().copy(), "codes": _codes(table["code"])}
        if "vector" in table.column_names:
            values = table["vector"].combine_chunks().flatten()
            arrays["vectors"] = values.to_numpy().reshape(-1, dim)
        if "scale" in table.column_names:
            arrays["scales"] = table["scale"].to_numpy()
        for name in ("center_documents", "center_queries"):
            if about.get(name) is not None:
                arrays[name] = np.array(about[name], np.float32)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise IndexFileError(f"{path} is no Parquet file that export wrote, or damaged: {error}") from error
    return (dim, store), arrays


def _codes(column: pyarrow.ChunkedArray) -> np.ndarray:
    """(n, bytes) uint8 of a chunked column of fixed-size binary."""
    parts = []
    for chunk in column.chunks:
        width = chunk.type.byte_width
        flat = np.frombuffer(chunk.buffers()[1], np.uint8)
        parts.append(flat[chunk.offset * width : (chunk.offset + len(chunk)) * width].reshape(len(chunk), width))
    width = column.type.byte_width
    return np.concatenate([np.zeros((0, width), np.uint8), *parts])

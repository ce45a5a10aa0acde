"""Parquet in and out: the one file that knows pyarrow, which the extra `longspan[parquet]` brings."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from longspan.cli.console.failures import CommandError
from longspan.cli.files.inputs import PLACE, Input, check_column, named
from longspan.cli.files.lines import read_bytes
from longspan.cli.files.stage import Block

_ROWS_A_BATCH = 1024
_INT64 = range(-(2**63), 2**63)
_EXACT = 2**53  # up to which a float holds every whole number


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise CommandError("Parquet needs pyarrow: pip install 'longspan[parquet]'") from error
    return pyarrow, pyarrow.parquet


def require_parquet() -> None:
    """Raise CommandError now, rather than after hours of work, where pyarrow is not installed."""
    _pyarrow()


def read_rows(source: Input, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, object], int]]:
    """(number from 1, the row's values in `columns`, its share of the file's bytes), with one batch of rows in memory.

    Raises: CommandError, not a Parquet file, damaged, no such column, or standard input (its end must be read first).
    """
    pyarrow, pq = _pyarrow()
    if source.path is None:
        raise CommandError("Parquet cannot be read from standard input, because its index lies at its end; name a file")
    try:
        with pq.ParquetFile(_place(source)) as file:
            names = file.schema_arrow.names
            columns = [name for name in dict.fromkeys(columns) if name not in PLACE or name in names]
            for name in columns:
                _check_path(source, name, file.schema_arrow)
            share = (source.size or 0) // max(file.metadata.num_rows, 1)
            number = 0
            for batch in file.iter_batches(batch_size=_ROWS_A_BATCH, columns=columns):
                for row in _without_nanoseconds(batch).to_pylist():
                    number += 1
                    yield number, row, share
    except (pyarrow.ArrowInvalid, pyarrow.ArrowIOError) as error:
        raise CommandError(f"{source.name} cannot be read as Parquet: {error}") from error


def _without_nanoseconds(batch: Any) -> Any:
    """The batch, whose times Python's own types can hold: to the microsecond as they are; finer ones as text, durations
    as a number of nanoseconds."""
    columns = [_with_plain_times(column) for column in batch.columns]
    pyarrow, _ = _pyarrow()
    return pyarrow.RecordBatch.from_arrays(columns, batch.schema.names)


def _with_plain_times(column: Any) -> Any:
    pyarrow, _ = _pyarrow()
    for fine in (False, True):
        kind = _plain_type(column.type, fine=fine)
        if kind == column.type:
            return column
        with suppress(pyarrow.ArrowInvalid):  # where microseconds would lose something
            return column.cast(kind)
    return column


def _plain_type(kind: Any, *, fine: bool) -> Any:
    """The type with its times in microseconds or, if they are `fine`, as text."""
    pyarrow, _ = _pyarrow()
    types = pyarrow.types
    if types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        return pyarrow.struct([one.with_type(_plain_type(one.type, fine=fine)) for one in fields])
    if types.is_list(kind) or types.is_large_list(kind):
        make = pyarrow.list_ if types.is_list(kind) else pyarrow.large_list
        return make(kind.value_field.with_type(_plain_type(kind.value_type, fine=fine)))
    if getattr(kind, "unit", None) != "ns":
        return kind
    if types.is_duration(kind):
        return pyarrow.int64() if fine else pyarrow.duration("us")
    if fine:
        return pyarrow.string()
    return pyarrow.timestamp("us", kind.tz) if types.is_timestamp(kind) else pyarrow.time64("us")


def _place(source: Input) -> Any:
    """The file, or what is in it, where it is zipped as a whole."""
    return source.path if not source.is_zipped else io.BytesIO(read_bytes(source))


def _check_path(source: Input, name: str, schema: Any) -> None:
    """A column, or a path such as `meta.text` through structs. Raises: CommandError, there is none."""
    names = schema.names
    if name in names or "." not in name:
        check_column(source, name, names)
        return
    first, *rest = name.split(".")
    check_column(source, first, names)
    kind = schema.field(first).type
    for part in rest:
        fields = [kind.field(place).name for place in range(kind.num_fields)]
        if part not in fields:
            raise CommandError(f"{source.name}: no column {name!r}; {first!r} has {named(fields)}")
        kind = kind.field(fields.index(part)).type


def read_vectors(
    source: Input, column: str, others: Sequence[str]
) -> Iterator[tuple[int, np.ndarray, list[dict[str, object]]]]:
    """(number of the first row from 1, (n, dim) vectors, the rows' values in those of `others` that are there).

    Raises: CommandError, not a Parquet file, damaged, or `column` holds no lists of numbers of one length.
    """
    pyarrow, pq = _pyarrow()
    assert source.path is not None, "Parquet is read from a file"
    try:
        with pq.ParquetFile(_place(source)) as file:
            check_column(source, column, file.schema_arrow.names)
            there = [name for name in dict.fromkeys(others) if name in file.schema_arrow.names]
            number = 1
            for batch in file.iter_batches(batch_size=_ROWS_A_BATCH, columns=[column, *there]):
                lists = batch.column(column)
                flat = lists.flatten().to_numpy(zero_copy_only=False) if hasattr(lists, "flatten") else np.empty(0)
                dim = len(flat) // max(len(lists), 1)
                lengths = {len(one) if one is not None else 0 for one in lists} if len(lists) else {dim}
                if lengths != {dim} or flat.dtype.kind not in "fu":
                    raise CommandError(f"{source.name}: column {column!r} must hold vectors of one length")
                yield number, flat.reshape(len(lists), dim), batch.select(there).to_pylist()
                number += len(lists)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowIOError) as error:
        raise CommandError(f"{source.name} cannot be read as Parquet: {error}") from error


def write_rows(
    path: Path,
    blocks: Iterable[Block],
    kept: Iterable[str],
    keep: Sequence[str],
    about: Mapping[str, object] | None = None,
) -> None:
    """Write columns `index` (int64), those of `keep`, and `embedding` (a list of fixed size).

    Args:
        blocks: the rows, at least one block, which may be empty.
        kept: every row's kept fields as JSON, read once beforehand to choose each column's type.
        keep: the names of the kept columns. A column that mixes kinds, or holds lists or objects, becomes JSON text.
        about: what made the rows: the file's metadata under "longspan", as JSON.
    """
    pyarrow, pq = _pyarrow()
    kinds = _column_kinds(kept, keep)
    types = {"bool": pyarrow.bool_(), "int": pyarrow.int64(), "float": pyarrow.float64()}
    writer = None
    try:
        for start, vectors, lines in blocks:
            rows = [json.loads(line) for line in lines]
            flat = pyarrow.array(vectors.reshape(-1))
            arrays = {"index": pyarrow.array(range(start, start + len(vectors)), pyarrow.int64())}
            for name in keep:
                values = [_cell(row.get(name), kinds[name]) for row in rows]
                arrays[name] = pyarrow.array(values, types.get(kinds[name], pyarrow.string()))
            arrays["embedding"] = pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
            table = pyarrow.table(arrays, metadata={"longspan": json.dumps(about or {}, ensure_ascii=False)})
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, use_dictionary=list(keep))  # vectors hold no repeats
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _column_kinds(kept: Iterable[str], keep: Sequence[str]) -> dict[str, str]:
    """For each kept column "bool", "int", "float", "str" or "json": the narrowest that holds all its values, exactly:
    whole numbers and others are text where a float would not hold one."""
    seen: dict[str, set[str]] = {name: set() for name in keep}
    if not keep:
        return {}
    for line in kept:
        for name, value in json.loads(line).items():
            if isinstance(value, int) and value not in _INT64:
                seen[name].add("json")
            elif type(value) is int and abs(value) > _EXACT:
                seen[name] |= {"int", "large int"}
            elif value is not None:
                seen[name].add(type(value).__name__)
    return {name: _narrowest(found) for name, found in seen.items()}


def _narrowest(found: set[str]) -> str:
    if not found:
        return "str"
    if found == {"int", "float"}:
        return "float"
    if found == {"int", "large int"}:
        return "int"
    (kind,) = found if len(found) == 1 else {"json"}
    return kind if kind in ("bool", "int", "float", "str") else "json"


def _cell(value: object, kind: str) -> object:
    if kind == "float" and isinstance(value, int):
        return float(value)
    return json.dumps(value, ensure_ascii=False) if kind == "json" and value is not None else value

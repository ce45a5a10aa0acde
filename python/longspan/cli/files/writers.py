"""Rows to an output file, .npy, JSONL or Parquet, written aside and renamed: whole, or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal, get_args

import numpy as np

from longspan.cli.console.failures import CommandError
from longspan.cli.files.parquet import write_rows
from longspan.cli.files.stage import Block, Stage, Vectors, npy_header
from longspan.own_files import open_new, sync_folder

OutputFormat = Literal["npy", "jsonl", "parquet"]
OUTPUT_FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
STDOUT = "-"

_BY_SUFFIX: dict[str, OutputFormat] = {
    ".npy": "npy",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_DIGITS = {"float32": 9, "float16": 5}  # as many as bring every value back bit for bit


def output_format(name: str, to: OutputFormat | None) -> OutputFormat:
    """The format that `to`, or else the suffix, names. Raises: CommandError, neither tells; stdout is not JSONL."""
    if name == STDOUT:
        if to not in (None, "jsonl"):
            raise CommandError(f"standard output takes --to jsonl only, got {to}; name a file")
        return "jsonl"
    found = to or _BY_SUFFIX.get(Path(name).suffix.lower())
    if found is None:
        raise CommandError(f"{name}: the suffix does not tell the format ({' '.join(_BY_SUFFIX)}); say it with --to")
    return found


def check_target(name: str, *, force: bool) -> Path:
    """Where the output will lie, links followed, if it may be written.

    Raises: CommandError, it is there and `force` is not given, it is no plain file, or its folder is not there.
    """
    target = Path(os.path.realpath(name))
    if not target.parent.is_dir():
        raise CommandError(f"{name}: the folder {target.parent} does not exist")
    if target.exists() and not target.is_file():
        raise CommandError(f"{name} is not a plain file, so it cannot be replaced; name another output")
    if target.exists() and not force:
        raise CommandError(f"{name} exists; give --force to replace it")
    if not os.access(target.parent, os.W_OK):
        raise CommandError(f"{name}: no permission to write in {target.parent}")
    return target


def publish(
    stage: Stage,
    target: Path,
    to: OutputFormat,
    *,
    finish: Callable[[Vectors], Vectors] | None = None,
    keep: Sequence[str] = (),
    about: Mapping[str, object] | None = None,
    beside: Path | None = None,
    about_in: Path | None = None,
    skipped_in: Path | None = None,
    force: bool = False,
) -> None:
    """Make the staged rows into the output file and put it in its place.

    Args:
        stage: the rows.
        target: the output file.
        to: its format.
        finish: turns staged rows into the rows of the output; None where they are those already.
        keep: names of the kept columns of a Parquet output.
        about: what made the rows, for a Parquet output's metadata.
        about_in: a file for that, of another output.
        skipped_in: a file for what was written to `skipped.jsonl` in the stage; where nothing was, there is none.
        beside: a second file, of the kept fields as JSONL; it is in its place before the output is.
        force: replace what is there.
    Raises: CommandError, the target appeared meanwhile and `force` is not given; OSError, as from the disk.
    """
    ready = stage.folder / f"output.{to}"
    blocks = ((start, finish(vectors) if finish else vectors, kept) for start, vectors, kept in stage.blocks())
    if to == "parquet":
        ready.unlink(missing_ok=True)
        write_rows(ready, blocks, stage.kept(), keep, about)
    elif to == "jsonl":
        with open_new(ready) as handle:
            write_jsonl(handle, blocks)
    elif finish:
        with open_new(ready) as handle:
            write_npy(handle, blocks)
    else:
        ready = stage.seal()  # the rows lie in a .npy file already
    places = [(ready, target)]
    if beside is not None:
        fields = stage.folder / "fields.jsonl"
        with open_new(fields) as lines:
            lines.writelines(f"{_numbered(index, kept)}}}\n".encode() for index, kept in enumerate(stage.kept()))
        places.insert(0, (fields, beside))
    if about_in is not None:
        facts = stage.folder / "about.json"
        with open_new(facts) as file:
            file.write((json.dumps(about, ensure_ascii=False, indent=2) + "\n").encode())
        places.insert(0, (facts, about_in))
    passed = stage.finished("skipped.jsonl")
    if skipped_in is not None and passed is not None:
        places.insert(0, (passed, skipped_in))
    for made, place in places:
        with open(made, "rb+") as handle:
            os.fsync(handle.fileno())
        if place.exists() and not force:
            raise CommandError(f"{place} appeared meanwhile; give --force to replace it")
    if skipped_in is not None and passed is None and force:
        skipped_in.unlink(missing_ok=True)  # of the output that is replaced
    for made, place in places:
        os.replace(made, place)
    sync_folder(target.parent)


def write_npy(handle: IO[bytes], blocks: Iterable[Block]) -> None:
    """Write rows as they come, and the header over its place when their number is known."""
    handle.write(npy_header(np.dtype(np.float32), 0, 0))
    rows, dim, dtype = 0, 0, np.dtype(np.float32)
    for _, vectors, _ in blocks:
        handle.write(np.ascontiguousarray(vectors).data)
        rows, dim, dtype = rows + len(vectors), vectors.shape[1], vectors.dtype
    handle.seek(0)
    handle.write(npy_header(dtype, rows, dim))


def write_jsonl(handle: IO[bytes], blocks: Iterable[Block]) -> None:
    """Write `{"index": 0, ...kept fields, "embedding": [...]}` a row, numbers as short as bring the same value back."""
    for block in blocks:
        handle.write("".join(_json_lines(*block)).encode())


def _json_lines(start: int, vectors: Vectors, kept: Sequence[str]) -> Iterator[str]:
    digits = _DIGITS.get(vectors.dtype.name)
    form = f"%.{digits}g".__mod__ if digits else str
    for index, (vector, fields) in enumerate(zip(vectors.tolist(), kept, strict=True), start):
        yield f'{_numbered(index, fields)}, "embedding": [{", ".join(map(form, vector))}]}}\n'


def _numbered(index: int, kept: str) -> str:
    """A JSON object without its last bracket: the row's number, then its kept fields."""
    return f'{{"index": {index}, {kept[1:-1]}' if kept != "{}" else f'{{"index": {index}'

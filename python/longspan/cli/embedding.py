"""The work of `longspan embed`: records to vectors in blocks, staged on the disk, published whole."""

from __future__ import annotations

import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from longspan import __version__
from longspan.cli.failures import CommandError, end_with
from longspan.cli.options import ModelOptions
from longspan.cli.plan import EmbedRequest, Plan
from longspan.cli.precision import calibration_ranges, needs_ranges, ranges_of
from longspan.cli.readers import Selection, read_records
from longspan.cli.stage import Block, Stage, Vectors, stage_folder
from longspan.cli.stream import Tally, embedded, encode_with, good_records
from longspan.cli.terminal import count, rate
from longspan.cli.writers import publish, write_jsonl
from longspan.quantize import FEW_EMBEDDINGS, Precision, quantize_embeddings

if TYPE_CHECKING:
    from longspan.embedder import Encoder

# Options of a run that change no row of its output, so that they may differ when it is resumed.
_FREE_OPTIONS = {"model", "inputs", "output", "to", "calibration", "batch_tokens", "force", "resume"}


@dataclass(frozen=True, slots=True)
class EmbedSummary:
    """What a finished run did, as `--json` prints it."""

    output: str
    rows: int
    dim: int  # of a row of the output: a binary code has dim / 8
    precision: Precision
    resumed_rows: int  # of `rows`, those that an earlier run had embedded
    skipped: int  # bad rows, with --skip-bad
    seconds: float
    texts_per_second: float


def embed(plan: Plan, encoder: Encoder, model: ModelOptions) -> EmbedSummary:
    """Run the plan.

    Raises: CommandError, whatever stopped it, saying what became of the output; Stopped, on Ctrl-C or a signal.
    """
    started = time.perf_counter()
    request, tally = plan.request, Tally()
    encode = encode_with(encoder, request)
    empty = encode([])  # (0, dim)
    ranges = calibration_ranges(request.calibration, empty.shape[1]) if request.calibration else None
    quantize = partial(quantize_embeddings, precision=request.precision, ranges=ranges)
    is_two_pass = needs_ranges(request.precision) and ranges is None
    quantize_now = _as_they_are if is_two_pass else quantize

    def encode_now(texts: list[str]) -> Vectors:
        return quantize_now(encode(texts))

    resumed_rows = 0
    if plan.target is None:
        write_jsonl(sys.stdout.buffer, _numbered(_embedded(plan, encode_now, tally)))
    else:
        staged = quantize_now(empty)
        run = _identity(plan, model, staged, ranges) if request.resume else None
        folder = stage_folder(plan.target, is_resumable=request.resume)
        stage: Stage | None = None
        try:
            stage = Stage(folder, staged.dtype, staged.shape[1], run=run)
            resumed_rows = stage.rows
            for vectors, kept in _embedded(plan, encode_now, tally, done=resumed_rows):
                stage.append(vectors, kept)
            finish = _second_pass(stage, request.precision) if is_two_pass else None
            publish(stage, plan.target, plan.to, finish=finish, keep=request.keep, force=request.force)
        except BaseException as error:
            _give_up(error, stage, folder, request)
        stage.discard()
    tally.report()
    seconds = time.perf_counter() - started
    return EmbedSummary(
        output=request.output,
        rows=resumed_rows + tally.rows,
        dim=quantize(empty).shape[1],
        precision=request.precision,
        resumed_rows=resumed_rows,
        skipped=tally.skipped,
        seconds=round(seconds, 3),
        texts_per_second=round(rate(tally.rows, seconds), 1),
    )


def _embedded(
    plan: Plan, encode: Callable[[list[str]], Vectors], tally: Tally, done: int = 0
) -> Iterator[tuple[Vectors, list[str]]]:
    """The vectors and kept fields of all records but the first `done`, a block at a time."""
    request = plan.request
    rows = read_records(plan.inputs, Selection(request.field, request.keep, request.whole_file))
    records = islice(good_records(rows, tally, keep=request.keep, skip_bad=request.skip_bad), request.limit)
    for vectors, block in embedded(records, encode, tally, inputs=plan.inputs, limit=request.limit, done=done):
        yield vectors, [record.kept for record in block]


def _numbered(rows: Iterable[tuple[Vectors, list[str]]]) -> Iterator[Block]:
    start = 0
    for vectors, kept in rows:
        yield start, vectors, kept
        start += len(kept)


def _as_they_are(vectors: Vectors) -> Vectors:
    return vectors


def _second_pass(stage: Stage, precision: Precision) -> Callable[[Vectors], Vectors]:
    """What turns the staged float32 rows into codes by the ranges of them all, as `Encoder.encode` of all texts would.

    Raises: CommandError, one row alone, whose ranges would have no width.
    """
    if stage.rows == 1:
        raise CommandError(f"{precision} cannot take its ranges from one text; give --calibration FILE.npy")
    if 0 < stage.rows < FEW_EMBEDDINGS:
        warnings.warn(
            f"{precision} ranges come from {stage.rows} texts only; --calibration takes better ones", stacklevel=2
        )
    ranges = ranges_of(stage.blocks())
    return partial(quantize_embeddings, precision=precision, ranges=ranges)


def _give_up(error: BaseException, stage: Stage | None, folder: Path, request: EmbedRequest) -> NoReturn:
    """Leave nothing behind, or what a resumed run can use, and say which; then the error goes on."""
    if stage is not None:
        stage.close()
    if request.resume and stage is None:
        raise error  # the folder, if there is one, may be an earlier run's
    if request.resume and stage is not None and stage.rows:
        fate = f"{count(stage.rows, 'row')} kept, and the same command goes on from there"
    else:
        shutil.rmtree(folder, ignore_errors=True)
        fate = f"nothing was written to {request.output}"
    end_with(error, fate)


def _identity(plan: Plan, model: ModelOptions, staged: Vectors, ranges: Vectors | None) -> dict[str, object]:
    """What must be the same for a run to go on where another one stopped: model, inputs, what shapes rows."""
    from longspan.hub import resolve

    request = plan.request
    folder = resolve(
        request.model, revision=model.revision, cache_dir=model.cache_dir, local_files_only=model.local_files_only
    )
    options = {name: value for name, value in asdict(request).items() if name not in _FREE_OPTIONS}
    return {
        "version of longspan": __version__,
        "model": str(folder.resolve()),
        "state of the model's files": [_state(path) for path in sorted(folder.rglob("*.safetensors"))],
        "device": model.device,
        "dtype": model.dtype,
        "inputs": [str(source.path and source.path.resolve()) for source in plan.inputs],
        "state of the inputs": [_state(source.path) for source in plan.inputs if source.path],
        "input formats": [source.format for source in plan.inputs],
        "width": [staged.shape[1], str(staged.dtype)],
        "calibration": None if ranges is None else ranges.tolist(),
        **options,
    }


def _state(path: Path) -> list[object]:
    """A file's size and time of change: another state, another content."""
    status = os.stat(path)
    return [path.name, status.st_size, status.st_mtime_ns]

"""The work of `longspan embed` and `longspan chunk`: records to rows in blocks, staged on the disk, published whole."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

import numpy as np

from longspan import __version__
from longspan.cli.console.failures import CommandError, end_with
from longspan.cli.console.terminal import count, rate, tell
from longspan.cli.embedding.options import ModelOptions, from_args, model_and_inputs
from longspan.cli.embedding.plan import Layout, Plan, RowsRequest, make_plan
from longspan.cli.embedding.precision import calibration_ranges, needs_ranges, ranges_of
from longspan.cli.embedding.stream import Made, Tally, embedded, good_records
from longspan.cli.files.readers import read_records
from longspan.cli.files.records import BadRow, Fit, Record, Selection
from longspan.cli.files.stage import Stage, Vectors, stage_folder
from longspan.cli.files.writers import STDOUT, publish, write_jsonl
from longspan.vectors.quantize import FEW_EMBEDDINGS, Precision, quantize_embeddings

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from longspan.encoder import Encoder

Asked = TypeVar("Asked", bound=RowsRequest)  # what a command was asked for

# Options of a run that change no row of its output, so that they may differ when it is resumed.
_FREE_OPTIONS = {"model", "inputs", "output", "to", "calibration", "batch_tokens", "force", "resume"}


@dataclass(frozen=True, slots=True)
class Work(Generic[Made]):
    """How a command makes rows of texts.

    Attributes:
        make: from records to the rows of them all, (rows, dim) f32, and what each text gave.
        kept: of a record, by its number, what its text gave: each row's kept fields as JSON.
        dim: values of a row.
        noun: what a text is called.
        fewest: texts of a block at least.
        fingerprint: the model's, which a resumed run holds against the one before.
        about: what makes the rows, as `provenance` says it.
        reads: what the model reads beside texts.
        fit: of a model that reads images, as of `Selection`.
    """

    make: Callable[[Sequence[Record]], tuple[Vectors, list[Made]]]
    kept: Callable[[int, Record, Made], list[str]]
    dim: int
    noun: str
    fewest: int
    fingerprint: Callable[[], str]
    about: Callable[[], dict[str, object]]
    reads: frozenset[str] = frozenset()
    fit: Fit | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What a finished run did."""

    rows: int
    records: int
    dim: int  # of a row of the output: a binary code has dim / 8
    resumed_rows: int  # of `rows`, those that an earlier run had made
    resumed_records: int  # the records that they came from
    skipped: int  # bad rows, with --skip-bad
    passed_over: dict[str, object]  # files of folders, by reason
    seconds: float

    @property
    def records_per_second(self) -> float:
        """Of this run alone."""
        return round(rate(self.records - self.resumed_records, self.seconds), 1)


@dataclass(frozen=True, slots=True)
class RowsCommand(Generic[Asked, Made]):
    """A command that makes rows of records: what it does in its own way.

    Attributes:
        asks: the record of its options.
        layout: what it reads and writes.
        work: how a loaded model makes its rows.
        summary: what a finished run did, a dataclass, and the same in words.
    """

    asks: type[Asked]
    layout: Callable[[Asked], Layout]
    work: Callable[[Encoder, Asked], Work[Made]]
    summary: Callable[[Asked, Done], tuple[DataclassInstance, str]]

    def run(self, args: argparse.Namespace) -> None:
        """Make the rows, then say what was done: JSON if asked, a line on stderr for a person, nothing in a pipe."""
        as_json: bool = args.json
        model_and_inputs(args)
        request = from_args(self.asks, args)
        plan = make_plan(request, self.layout(request), as_json=as_json)
        model = from_args(ModelOptions, args)
        done = make_rows(plan, self.work(model.open(request.model), request), model)
        summary, words = self.summary(request, done)
        tell(asdict(summary), words, as_json=as_json)


def place_of(output: str) -> str:
    """An output in words."""
    return "standard output" if output == STDOUT else output


def make_rows(plan: Plan, work: Work[Made], model: ModelOptions) -> Done:
    """Run the plan.

    Raises: CommandError, whatever stopped it, saying what became of the output; Stopped, on Ctrl-C or a signal.
    """
    started = time.perf_counter()
    request, tally = plan.request, Tally(passed=plan.passed)
    empty = np.empty((0, work.dim), np.float32)
    ranges = calibration_ranges(request.calibration, work.dim) if request.calibration else None
    quantize = partial(quantize_embeddings, precision=request.precision, ranges=ranges)
    is_two_pass = needs_ranges(request.precision) and ranges is None
    quantize_now = _as_they_are if is_two_pass else quantize
    rows = resumed_rows = resumed_records = 0
    if plan.target is None:
        for vectors, kept, _ in _made(plan, work, quantize_now, tally):
            write_jsonl(sys.stdout.buffer, [(rows, vectors, kept)])
            rows += len(kept)
    else:
        about = work.about()  # now, while the model's files are as they were read
        staged = quantize_now(empty)
        run = _identity(plan, model, work.fingerprint(), staged, ranges) if request.resume else None
        folder = stage_folder(plan.target, is_resumable=request.resume)
        stage: Stage | None = None
        try:
            stage = Stage(folder, staged.dtype, staged.shape[1], run=run)
            resumed_rows, resumed_records = stage.rows, stage.records
            if plan.skipped_in is not None:
                tally.log, tally.logged_to = stage.beside("skipped.jsonl"), str(plan.skipped_in)
            for block in _made(plan, work, quantize_now, tally, done=resumed_records):
                stage.append(*block)
            finish = _second_pass(stage, request.precision) if is_two_pass else None
            publish(
                stage,
                plan.target,
                plan.to,
                finish=finish,
                keep=plan.columns,
                about=about,
                beside=plan.beside,
                about_in=plan.about_in,
                skipped_in=plan.skipped_in,
                force=request.force,
            )
        except BaseException as error:
            _give_up(error, stage, folder, request)
        rows = stage.rows
        stage.discard()
    tally.report()
    return Done(
        rows=rows,
        records=resumed_records + tally.rows,
        dim=quantize(empty).shape[1],
        resumed_rows=resumed_rows,
        resumed_records=resumed_records,
        skipped=tally.skipped,
        passed_over=tally.passed.as_json(),
        seconds=round(time.perf_counter() - started, 3),
    )


def _made(
    plan: Plan, work: Work[Made], quantize: Callable[[Vectors], Vectors], tally: Tally, done: int = 0
) -> Iterator[tuple[Vectors, list[str], int]]:
    """Vectors, kept fields and number of records of all blocks behind the first `done` records."""
    request = plan.request
    good = good_records(_records(plan, work), tally, keep=request.keep, skip_bad=request.skip_bad)

    def make(block: Sequence[Record]) -> tuple[Vectors, list[Made]]:
        vectors, made = work.make(block)
        return quantize(vectors), made

    blocks = embedded(
        islice(good, request.limit),
        make,
        tally,
        inputs=plan.inputs,
        limit=request.limit,
        done=done,
        noun=work.noun,
        fewest=work.fewest,
    )
    for (vectors, made), block in blocks:
        numbered = enumerate(zip(block, made, strict=True), done + tally.rows)
        yield vectors, [row for number, (one, gave) in numbered for row in work.kept(number, one, gave)], len(block)


def _records(plan: Plan, work: Work[Made]) -> Iterator[Record | BadRow]:
    for source in plan.inputs:
        selection = Selection(plan.request.field, plan.keep, plan.reads_whole(source), work.reads, work.fit)
        yield from read_records([source], selection)


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


def _give_up(error: BaseException, stage: Stage | None, folder: Path, request: RowsRequest) -> NoReturn:
    """Leave nothing behind, or what a resumed run can use, and say which; then the error goes on."""
    if stage is not None:
        stage.close()
    if request.resume and stage is None:
        raise error  # the folder, if there is one, may be an earlier run's
    if request.resume and stage is not None and stage.records:
        fate = f"{count(stage.rows, 'row')} kept, and the same command goes on from there"
    else:
        shutil.rmtree(folder, ignore_errors=True)
        fate = f"nothing was written to {request.output}"
    end_with(error, fate)


def _identity(
    plan: Plan, model: ModelOptions, fingerprint: str, staged: Vectors, ranges: Vectors | None
) -> dict[str, object]:
    """What must be the same for a run to go on where another one stopped: model, inputs, what shapes rows."""
    request = plan.request
    options = {name: value for name, value in asdict(request).items() if name not in _FREE_OPTIONS}
    return {
        "version of longspan": __version__,
        "the model's fingerprint": fingerprint,
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

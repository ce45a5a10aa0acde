"""Records to vectors, a block at a time: what the commands that embed files share."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import IO, TYPE_CHECKING, Literal, Protocol, TypeVar

import numpy as np

from longspan.cli.console.failures import CommandError
from longspan.cli.console.pace import Pace
from longspan.cli.console.terminal import count
from longspan.cli.files.inputs import Input
from longspan.cli.files.passed_over import PassedOver
from longspan.cli.files.records import BadRow, Fit, Record
from longspan.cli.files.stage import Vectors
from longspan.errors import TruncationWarning
from longspan.progress import BYTES, progress_bar

if TYPE_CHECKING:
    from longspan.encoder import Encoder
    from longspan.pipeline.options import OnTruncate
    from longspan.text.tasks import Role

Made = TypeVar("Made")  # what a block of texts becomes
TEXTS_A_BLOCK = 32  # at least: enough to keep the kernels busy
MEDIUM_CHARACTERS = 1_000_000  # what an image or a sound counts for in a block: a few keep the kernels busy for seconds
Given = str | dict[str, object]  # what an encoder takes: a text, or {"image": ...}, {"audio": ...}, {"video": ...}


def media_read(encoder: object) -> frozenset[str]:
    """What the model reads beside texts."""
    return frozenset(getattr(encoder, "modalities", ())) - {"text"}


def fit_for(encoder: object) -> Fit | None:
    """What makes of an image file what the model reads of it; None for a model that reads none."""
    fit_image = getattr(encoder, "fit_image", None)
    if fit_image is None or "image" not in media_read(encoder):
        return None
    return lambda path, name: fit_image(path, name)[0]


class Meaning(Protocol):
    """The options of a run that say what its vectors mean."""

    @property
    def task(self) -> str | None: ...
    @property
    def prompt_name(self) -> str | None: ...
    @property
    def prompt(self) -> str | None: ...
    @property
    def truncate_dim(self) -> int | None: ...
    @property
    def normalize(self) -> bool | None: ...


class EncodeOptions(Meaning, Protocol):
    """How texts become vectors: options of `Encoder.encode`."""

    @property
    def role(self) -> Role | None: ...
    @property
    def max_length(self) -> int | None: ...
    @property
    def on_truncate(self) -> OnTruncate: ...
    @property
    def batch_tokens(self) -> int | None: ...


def encode_with(encoder: Encoder, options: EncodeOptions) -> Callable[[Sequence[Given]], Vectors]:
    """Texts and images to (n, dim) float32, by the encoder's method for the role and with the other options."""
    methods = {None: encoder.encode, "query": encoder.encode_query, "document": encoder.encode_document}
    method = methods[options.role]

    def encode(texts: Sequence[Given]) -> Vectors:
        vectors = method(
            texts,
            task=options.task,
            prompt_name=options.prompt_name,
            prompt=options.prompt,
            batch_tokens=options.batch_tokens,
            show_progress_bar=False,
            normalize_embeddings=options.normalize,
            truncate_dim=options.truncate_dim,
            max_length=options.max_length,
            on_truncate=options.on_truncate,
        )
        assert isinstance(vectors, np.ndarray), "encode of a list gives an array"
        return vectors

    return encode


@dataclass(slots=True)
class Tally:
    """What a run has met so far."""

    rows: int = 0
    skipped: int = 0
    first_skipped: str = ""
    log: IO[bytes] | None = None  # where each row that is passed over is told
    logged_to: str = ""  # its name, for the report
    passed: PassedOver = field(default_factory=PassedOver)  # files of folders
    # Of texts, and of sounds, that were longer than the model takes: in how many blocks, and what the first one said.
    cut: dict[Literal["texts", "sounds"], tuple[int, str]] = field(default_factory=dict)

    def report(self, advice: str = "") -> None:
        """Warn once of each thing that happened to texts; `advice`: what may be done about texts that were cut."""
        for noun, (blocks, first) in self.cut.items():
            more = f" (and so in {count(blocks - 1, 'later block')} of texts)" if blocks > 1 else ""
            warnings.warn(first + more + (advice if noun == "texts" else ""), TruncationWarning, stacklevel=2)
        if self.skipped:
            warnings.warn(
                f"{count(self.skipped, 'bad row')} passed over{self.logged_to and f', told in {self.logged_to}'}; the "
                f"first: {self.first_skipped}",
                stacklevel=2,
            )
        if self.passed:
            warnings.warn(self.passed.sentence(), stacklevel=2)

    def skip(self, reason: str, before: int) -> None:
        """Count a row that is passed over, behind so many that are not, and write it down."""
        self.skipped += 1
        self.first_skipped = self.first_skipped or reason
        if self.log is not None:
            line = {"records_before": before, "reason": reason}
            self.log.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")

    @contextmanager
    def truncation(self) -> Iterator[None]:
        """Keep one block's warning for the end, where one line stands for all; other warnings pass."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", TruncationWarning)
            yield
        for warning in caught:
            if issubclass(warning.category, TruncationWarning):
                message = str(warning.message)
                noun: Literal["texts", "sounds"] = "sounds" if "sounds" in message else "texts"
                blocks, first = self.cut.get(noun, (0, message))
                self.cut[noun] = blocks + 1, first
            else:
                warnings.warn(warning.message, stacklevel=2)


def _way_out(reason: str) -> str:
    """What a user may do about a bad row."""
    other = "--encoding names another encoding, " if "not UTF-8" in reason else ""
    return f" ({other}--skip-bad passes over bad rows)"


def good_records(
    rows: Iterable[Record | BadRow], tally: Tally, *, keep: Sequence[str], skip_bad: bool | None
) -> Iterator[Record]:
    """The records; a bad row is counted with `skip_bad` or where nobody has named its file, and is an error else. None
    is False, of a command without such an option. Warns of a field that no row has."""
    unseen, good = set(keep), 0
    for row in rows:
        if isinstance(row, Record):
            good += 1
            if unseen:
                unseen -= json.loads(row.kept).keys()
            yield row
        elif row.file is not None:
            tally.passed.add(row.file, row.reason)
        elif not (skip_bad or row.is_found):
            raise CommandError(row.reason + ("" if skip_bad is None else _way_out(row.reason)))
        else:
            tally.skip(row.reason, good)
    for name in sorted(unseen):
        warnings.warn(f"--keep {name}: no row has that field", stacklevel=2)


def embedded(
    records: Iterator[Record],
    encode: Callable[[Sequence[Record]], Made],
    tally: Tally,
    *,
    inputs: Sequence[Input],
    limit: int | None,
    done: int = 0,
    noun: str = "text",
    fewest: int = TEXTS_A_BLOCK,
) -> Iterator[tuple[Made, list[Record]]]:
    """The records and their vectors, a block at a time, with progress: of the inputs' bytes, or of `limit` records.

    The first `done` are passed over, which an earlier run has embedded.

    Args:
        records: all of them.
        encode: from the records of a block to what is yielded for it.
        tally: counts them.
        inputs: where the records come from.
        limit: records that there may be; None for any number.
        done: records that an earlier run has embedded.
        noun: what a record is called.
        fewest: records of a block at least.
    """
    sizes = [source.size for source in inputs]
    in_bytes = limit is None and None not in sizes
    total = sum(size or 0 for size in sizes) if in_bytes else limit
    pace = Pace(fewest)

    def not_held() -> Iterator[Record]:
        for record in records:
            if record.is_held:
                advance(record.size if in_bytes else 1)
            else:
                yield record

    with progress_bar(total, BYTES if in_bytes else noun, show=None, what=f"{noun}s") as advance:
        for record in islice(records, done):
            advance(record.size if in_bytes else 1)
        for block in pace.blocks(not_held(), _weight):
            started = time.perf_counter()
            try:
                with tally.truncation():
                    vectors = encode(block)
            except ValueError as error:
                raise CommandError(f"{error} (in the {noun}s from {block[0].place} to {block[-1].place})") from error
            yield vectors, block
            pace.took(len(block), time.perf_counter() - started)
            tally.rows += len(block)
            advance(sum(record.size for record in block) if in_bytes else len(block))


def _weight(record: Record) -> int:
    """Characters, or what stands for them."""
    return len(record.text) if record.medium is None else MEDIUM_CHARACTERS

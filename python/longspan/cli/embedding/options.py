"""Options that commands share, and a command's options as one typed record."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from longspan.cli.console.failures import CommandError
from longspan.cli.files.inputs import Reading
from longspan.cli.files.walk import Choice
from longspan.cli.files.writers import OUTPUT_FORMATS
from longspan.documents.kinds import FORMATS, Format
from longspan.integers import LARGEST
from longspan.vectors.quantize import PRECISIONS

if TYPE_CHECKING:
    from longspan.checkpoint.checkpoint import Checkpoint
    from longspan.encoder import Encoder
    from longspan.multi_vector import MultiVectorEncoder
    from longspan.pipeline.purpose import Purpose
    from longspan.reranker import Reranker
    from longspan.sparse_encoder import SparseEncoder

Record = TypeVar("Record")
M = TypeVar("M", bound="Encoder | MultiVectorEncoder | Reranker | SparseEncoder")


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How a model is found and run."""

    device: str | None
    dtype: str
    threads: int | None
    revision: str | None
    cache_dir: str | None
    local_files_only: bool

    def open(self, model: str) -> Encoder:
        """Load the model. Raises: FileNotFoundError, CheckpointError, ValueError, as `Encoder` does."""
        from longspan import Encoder

        return self._made(Encoder, model)

    def open_reranker(self, model: str) -> Reranker:
        """Load a reranker. Raises: as `Reranker` does."""
        from longspan import Reranker

        return self._made(Reranker, model)

    def open_sparse(self, model: str) -> SparseEncoder:
        """Load a sparse model, which stands beside the one that `revision` is of. Raises: as `SparseEncoder` does."""
        from longspan import SparseEncoder

        return SparseEncoder(
            model,
            device=self.device,
            dtype=self.dtype,
            cache_dir=self.cache_dir,
            local_files_only=self.local_files_only,
            num_threads=self.threads,
        )

    def open_either(self, model: str, *, prefers_tokens: bool = False) -> Encoder | MultiVectorEncoder:
        """The same, of a late-interaction model its own kind of encoder; `prefers_tokens`: of one that is both too."""
        from longspan import MultiVectorEncoder
        from longspan.late_interaction.token_head import makes_both
        from longspan.pipeline.purpose import purpose_of

        with closing(self._checkpoint(model)) as checkpoint:
            has_tokens = purpose_of(checkpoint) == "late interaction" or (prefers_tokens and makes_both(checkpoint))
        return self._made(MultiVectorEncoder, model) if has_tokens else self.open(model)

    def open_for(self, purpose: Purpose, model: str) -> Encoder | MultiVectorEncoder | Reranker | SparseEncoder:
        """The model, by the class that runs what it is for."""
        from longspan import Encoder, MultiVectorEncoder, Reranker, SparseEncoder

        kinds = {
            "embedding": Encoder,
            "late interaction": MultiVectorEncoder,
            "reranking": Reranker,
            "sparse": SparseEncoder,
        }
        return self._made(kinds[purpose], model)

    def purpose(self, model: str) -> Purpose:
        """What the model is for, by its files. Raises: FileNotFoundError, CheckpointError."""
        from longspan.pipeline.purpose import purpose_of

        with closing(self._checkpoint(model)) as checkpoint:
            return purpose_of(checkpoint)

    def _checkpoint(self, model: str) -> Checkpoint:
        from longspan.checkpoint import hub
        from longspan.checkpoint.checkpoint import Checkpoint

        folder = hub.resolve(
            model, revision=self.revision, cache_dir=self.cache_dir, local_files_only=self.local_files_only
        )
        return Checkpoint.open(folder)

    def _made(self, kind: type[M], model: str) -> M:
        return kind(
            model,
            device=self.device,
            dtype=self.dtype,
            revision=self.revision,
            cache_dir=self.cache_dir,
            local_files_only=self.local_files_only,
            num_threads=self.threads,
        )

    def with_revision(self, revision: str | None) -> ModelOptions:
        """The same, with this revision where none is asked for."""
        return self if self.revision is not None else replace(self, revision=revision)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """The options behind `ModelOptions`."""
    group = parser.add_argument_group("model")
    group.add_argument("--device", metavar="NAME", help="where to compute: cpu (default), cuda or cuda:N")
    group.add_argument(
        "--dtype",
        default="auto",
        metavar="TYPE",
        help="what to compute in: float32 (the CPU's default), bfloat16 or int8",
    )
    group.add_argument("--threads", type=positive, metavar="N", help="threads to compute with (default: all cores)")
    group.add_argument("--revision", metavar="REV", help="branch, tag or commit of a model on the hub")
    group.add_argument("--cache-dir", metavar="DIR", help="where downloaded models are kept")
    group.add_argument("--local-files-only", action="store_true", help="never download")


def add_files(parser: argparse.ArgumentParser) -> None:
    """The model, what is read, and what is written."""
    add_model_and_inputs(parser, "a file or folder to read, or - for standard input")
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True, help="the file to write, or - for JSONL to stdout"
    )


def add_model_and_inputs(parser: argparse.ArgumentParser, what: str) -> None:
    """`MODEL INPUT ...`, or `INPUT ... --model MODEL`, as the other commands have it; `model_and_inputs` tells them
    apart."""
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help=what)
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="a folder, or org/name on the Hugging Face hub; without it, the first word",
    )


def model_and_inputs(args: argparse.Namespace) -> None:
    """Make the first word the model, unless --model is given. Raises: CommandError, there is no input then."""
    if args.model is None:
        args.model, *args.inputs = args.inputs
    if not args.inputs:
        raise CommandError(f"{args.model} is the model; name an input behind it, or give --model")


def add_reading_options(group: argparse._ArgumentGroup, noun: str, plural: str) -> None:
    """Where the texts are in the inputs, and which of them count."""
    add_format_options(group)
    add_folder_options(group)
    group.add_argument("--limit", type=positive, metavar="N", help=f"stop after N {plural}")
    group.add_argument(
        "--skip-bad",
        action="store_true",
        help=f"pass over rows that hold no usable {noun}; OUT.skipped.jsonl says which",
    )


def add_format_options(group: argparse._ArgumentGroup) -> None:
    """What the inputs are, and where a row has its text: the options behind `ReadingOptions`, and --field."""
    group.add_argument("--format", choices=FORMATS, metavar="KIND", help=f"what inputs are ({', '.join(FORMATS)})")
    group.add_argument(
        "--field", "--column", default="text", metavar="NAME",
        help="where a row has its text; meta.text is `text` within `meta` (default: text)",
    )  # fmt: skip
    group.add_argument("--encoding", metavar="NAME", help="of the inputs, such as latin-1 (default: UTF-8)")
    group.add_argument("--delimiter", metavar="C", help="between the fields of .csv: a character, or tab")


def add_folder_options(group: argparse._ArgumentGroup) -> None:
    """Which files of a folder are read."""
    group.add_argument(
        "--include", action="append", default=[], metavar="GLOB", help="of a folder, read only such files"
    )
    group.add_argument("--exclude", action="append", default=[], metavar="GLOB", help="of a folder, leave these out")
    group.add_argument("--hidden", action="store_true", help="of a folder, read hidden files too")
    group.add_argument("--no-ignore", action="store_true", help="of a folder, read what a .gitignore names too")


class ReadingOptions(Protocol):
    """Options that say how inputs are read."""

    @property
    def format(self) -> Format | None: ...
    @property
    def encoding(self) -> str | None: ...
    @property
    def delimiter(self) -> str | None: ...
    @property
    def include(self) -> tuple[str, ...]: ...
    @property
    def exclude(self) -> tuple[str, ...]: ...
    @property
    def hidden(self) -> bool: ...
    @property
    def no_ignore(self) -> bool: ...


def reading_of(request: ReadingOptions) -> Reading:
    """What the options say."""
    choice = Choice(request.include, request.exclude, hidden=request.hidden, ignored=request.no_ignore)
    return Reading(request.format, request.encoding, request.delimiter, choice)


def add_meaning_options(group: argparse._ArgumentGroup, noun: str) -> None:
    """Task, prompt, and how much of a text counts."""
    group.add_argument("--task", metavar="NAME", help="one of the model's tasks; `longspan info MODEL` lists them")
    prompt = group.add_mutually_exclusive_group()
    prompt.add_argument("--prompt-name", metavar="NAME", help="one of the model's prompts")
    prompt.add_argument("--prompt", metavar="TEXT", help=f"a prompt to put before every {noun}")
    group.add_argument("--batch-tokens", type=positive, metavar="N", help="tokens to compute on at a time")


def add_vector_options(parser: argparse.ArgumentParser) -> None:
    """What becomes of a vector."""
    group = parser.add_argument_group("vectors")
    group.add_argument("--truncate-dim", type=positive, metavar="N", help="keep the first N dimensions")
    group.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="to unit length, or not (default: the model's own way)",
    )
    group.add_argument("--precision", choices=PRECISIONS, default="float32", help="what to write (default: float32)")
    group.add_argument("--calibration", metavar="FILE.npy", help="vectors to take the ranges of int8 and uint8 from")


def add_writing_options(group: argparse._ArgumentGroup, keep: str) -> None:
    """The output's format, and whether it may be replaced or gone on with."""
    group.add_argument("--to", choices=OUTPUT_FORMATS, help="the output's format (default: by suffix)")
    group.add_argument("--keep", action="append", default=[], metavar="FIELD", help=keep)
    group.add_argument("--force", action="store_true", help="replace an output that exists")
    group.add_argument(
        "--resume", action="store_true", help="keep what is done if the run is stopped, and go on from what is kept"
    )
    group.add_argument("--json", action="store_true", help="print a summary on stdout as JSON")


def from_args(record: type[Record], args: argparse.Namespace) -> Record:
    """The dataclass `record` with each field taken from the parsed option of its name."""
    values = {field.name: getattr(args, field.name) for field in fields(record)}  # type: ignore[arg-type]
    return record(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def not_negative(text: str) -> int:
    """A whole number from 0 up, as an argparse type."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 up, got {text!r}")
    return int(text)


def positive(text: str) -> int:
    """A whole number from 1 up, as an argparse type."""
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, got {text!r}")
    return min(number, LARGEST)

"""Options that commands share, and a command's options as one typed record."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from longspan.embedder import Encoder

Record = TypeVar("Record")


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

        return Encoder(
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
    group.add_argument("--device", metavar="NAME", help="where to compute (default: cpu)")
    group.add_argument(
        "--dtype", default="auto", metavar="TYPE", help="what to compute in: float32 (default), bfloat16 or int8"
    )
    group.add_argument("--threads", type=positive, metavar="N", help="threads to compute with (default: all cores)")
    group.add_argument("--revision", metavar="REV", help="branch, tag or commit of a model on the hub")
    group.add_argument("--cache-dir", metavar="DIR", help="where downloaded models are kept")
    group.add_argument("--local-files-only", action="store_true", help="never download")


def from_args(record: type[Record], args: argparse.Namespace) -> Record:
    """The dataclass `record` with each field taken from the parsed option of its name."""
    return record(**{field.name: getattr(args, field.name) for field in fields(record)})  # type: ignore[arg-type]


def positive(text: str) -> int:
    """A whole number from 1 up, as an argparse type."""
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 up, got {text!r}")
    return number

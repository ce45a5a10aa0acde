"""The options that `encode` and its kin share."""

from __future__ import annotations

import operator
from typing import Literal, TypedDict

from longspan.quantize import Precision
from longspan.tasks import Task

OutputValue = Literal["sentence_embedding", "token_embeddings"]
OnTruncate = Literal["warn", "error", "ignore"]


class EncodeOptions(TypedDict, total=False):
    """The options that `encode`, `encode_query` and `encode_document` share; `Encoder.encode` says what they mean."""

    task: Task
    batch_size: int | None
    batch_tokens: int | None
    show_progress_bar: bool | None
    normalize_embeddings: bool | None
    truncate_dim: int | None
    precision: Precision
    output_value: OutputValue
    max_length: int | None
    on_truncate: OnTruncate
    convert_to_tensor: bool


def check_choice(caller: str, name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    """ValueError if `value` is none of `choices`."""
    if value not in choices:
        raise ValueError(f"{caller}: {name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def checked_int(caller: str, name: str, value: int) -> int:
    """`value` as an int; TypeError if it is none."""
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{caller}: {name} must be an int, got {type(value).__name__}") from None


def check_engine(caller: str, device: str | None, dtype: str, num_threads: int | None) -> None:
    """ValueError if there is no such engine; what the constructors of both encoders take."""
    if device not in (None, "cpu"):
        raise ValueError(f"{caller}: device must be None or 'cpu', got {device!r}; this version has no GPU engine")
    if dtype not in ("auto", "float32"):
        raise ValueError(f"{caller}: dtype must be 'auto' or 'float32', got {dtype!r}")
    if num_threads is not None and num_threads < 1:
        raise ValueError(f"{caller}: num_threads must be 1 or more, got {num_threads}")

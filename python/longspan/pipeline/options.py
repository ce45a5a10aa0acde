"""The options that `encode` and its kin share."""

from __future__ import annotations

from typing import Literal, TypedDict

from longspan.text.tasks import Task
from longspan.vectors.quantize import Precision

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
    modality: str | None


def check_choice(caller: str, name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    """ValueError if `value` is none of `choices`."""
    if value not in choices:
        raise ValueError(f"{caller}: {name} must be one of {', '.join(map(repr, choices))}, got {value!r}")

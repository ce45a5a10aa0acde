"""The options that `encode` and its kin share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypedDict, get_args

from longspan.pipeline.media_options import MediaOptions
from longspan.text.tasks import Task
from longspan.vectors.quantize import Precision

OutputValue = Literal["sentence_embedding", "token_embeddings"]
OnTruncate = Literal["warn", "error", "ignore"]
ON_TRUNCATE: Final[tuple[OnTruncate, ...]] = get_args(OnTruncate)


class _SharedOptions(TypedDict, total=False):
    task: Task
    batch_size: int | None
    batch_tokens: int | None
    show_progress_bar: bool | None
    normalize_embeddings: bool | None
    truncate_dim: int | None
    max_length: int | None
    on_truncate: OnTruncate
    modality: str | None
    media: MediaOptions | None


class EncodeOptions(_SharedOptions, total=False):
    """The options that `encode`, `encode_query` and `encode_document` share; `Encoder.encode` says what they mean."""

    precision: Precision
    output_value: OutputValue
    convert_to_tensor: bool


# From here on: what those three take by keyword, once for each kind of result, for type checkers and completion alone.
class _KeywordOptions(_SharedOptions, total=False):
    prompt_name: str | None
    prompt: str | Sequence[str] | None
    # Names that sentence-transformers has beside: `takes_peer_names`.
    device: str | None
    pool: None
    chunk_size: int | None


class _ArrayOptions(_KeywordOptions, total=False):
    convert_to_tensor: Literal[False]
    convert_to_numpy: Literal[True]


class _VectorOptions(_ArrayOptions, total=False):
    output_value: Literal["sentence_embedding"]


class FloatOptions(_VectorOptions, total=False):
    """A float32 array."""

    precision: Literal["float32"]


class HalfOptions(_VectorOptions):
    """A float16 array."""

    precision: Literal["float16"]


class SignedOptions(_VectorOptions):
    """An int8 array."""

    precision: Literal["int8", "binary"]


class UnsignedOptions(_VectorOptions):
    """A uint8 array."""

    precision: Literal["uint8", "ubinary"]


class PrecisionOptions(_VectorOptions):
    """An array, in a precision that is known when the program runs."""

    precision: Precision


class _FloatTokenOptions(_ArrayOptions, total=False):
    precision: Literal["float32"]


class TokenOptions(_FloatTokenOptions):
    """Token vectors: an array a text."""

    output_value: Literal["token_embeddings"]


class _TensorOptions(_KeywordOptions, total=False):
    precision: Precision
    convert_to_numpy: bool


class _VectorTensorOptions(_TensorOptions, total=False):
    output_value: Literal["sentence_embedding"]


class TensorOptions(_VectorTensorOptions):
    """A torch tensor."""

    convert_to_tensor: Literal[True]


class TokenTensorOptions(_TensorOptions):
    """Token vectors: a torch tensor a text."""

    convert_to_tensor: Literal[True]
    output_value: Literal["token_embeddings"]


class AnyOptions(_KeywordOptions, total=False):
    """Whatever is known only when the program runs."""

    precision: Precision
    output_value: OutputValue
    convert_to_tensor: bool
    convert_to_numpy: bool


def check_choice(caller: str, name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    """ValueError if `value` is none of `choices`."""
    if value not in choices:
        raise ValueError(f"{caller}: {name} must be one of {', '.join(map(repr, choices))}, got {value!r}")

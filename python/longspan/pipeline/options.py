"""The options that `encode` and its kin share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
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


def refuse_unknown(caller: str, given: Iterable[str], known: Iterable[str]) -> None:
    """TypeError for a name that is not known, with the known one that is most like it."""
    names = sorted(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
            raise TypeError(f"{caller}: there is no argument {name!r}; {hint}")


def check_choice(caller: str, name: str, value: str | None, choices: tuple[str | None, ...]) -> None:
    """ValueError if `value` is none of `choices`."""
    if value not in choices:
        raise ValueError(f"{caller}: {name} must be one of {', '.join(map(repr, choices))}, got {value!r}")

"""What a caller of `encode` gets: rows stacked, in a precision, as torch tensors if asked, and word of what was cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from longspan.vectors.arrays import FloatArray, VectorArray
from longspan.vectors.quantize import Precision, quantize_embeddings

if TYPE_CHECKING:
    import torch

# What `encode` may give, by all of its arguments.
Result: TypeAlias = "VectorArray | list[FloatArray] | torch.Tensor | list[torch.Tensor]"


def stack(rows: list[np.ndarray], dim: int) -> np.ndarray:
    """One (dim,) f32 a text as (n, dim), also where n is 0."""
    return np.stack(rows) if rows else np.empty((0, dim), np.float32)


def present(
    rows: list[np.ndarray], *, dim: int | None, precision: Precision, alone: bool, convert_to_tensor: bool
) -> Result:
    """The rows in the form that the caller asked for.

    Args:
        rows: one (dim,) f32 a text; with `dim` None one (tokens, dim) f32 a text, which stay a list.
        dim: values of a row.
        precision: of the embeddings; token vectors are float32.
        alone: the caller gave one text, and gets its result by itself.
        convert_to_tensor: as torch tensors. ImportError where torch is not installed.
    """
    result: np.ndarray | list[np.ndarray] = rows
    if dim is not None:
        result = stack(rows, dim)
        if precision != "float32":
            result = quantize_embeddings(result, precision)
    if convert_to_tensor:
        tensors = _to_torch(result)
        return tensors[0] if alone else tensors
    return result[0] if alone else result


def truncation_text(num_cut: int, num_lost: int, num_texts: int, limit: int, unread: int = 0) -> str:
    """The warning for `num_cut` texts that lost `num_lost` tokens together, and `unread` characters behind them."""
    texts = f"{num_cut} of {num_texts} texts" if num_texts > 1 else "the text"
    rest = f" and {unread:,} characters behind them" if unread else ""
    return f"encode: {texts} had more than {limit} tokens; {num_lost} tokens{rest} were left out"


def _to_torch(result: np.ndarray | list[np.ndarray]) -> torch.Tensor | list[torch.Tensor]:
    try:
        import torch
    except ImportError as error:
        raise ImportError("encode: convert_to_tensor=True needs torch, which is not installed") from error
    if isinstance(result, list):
        return [torch.from_numpy(array) for array in result]
    return torch.from_numpy(result)

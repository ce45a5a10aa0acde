"""PyTorch: what its users would write with plain operations."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch

from ..case import Contestant, Numerics, Setting
from . import AbsentError
from .subject import first

PADDED_BATCH: Final = 32
MAX_BIAS: Final = 1e9  # bytes of a bias for every pair of tokens
DTYPES: Final[tuple[tuple[str, Numerics, torch.dtype], ...]] = (
    ("torch", "float32", torch.float32),
    ("torch bfloat16", "bfloat16", torch.bfloat16),
)


def linear(setting: Setting, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> list[Contestant]:
    """x (rows, in) weight (out, in) bias (out,) f32."""
    torch.set_num_threads(setting.threads)
    contestants = []
    for name, numerics, dtype in DTYPES:
        tensors = [torch.from_numpy(array).to(dtype) for array in (x, weight, bias)]

        def run(tensors: list[torch.Tensor] = tensors) -> torch.Tensor:
            with torch.inference_mode():
                return torch.nn.functional.linear(*tensors)

        contestants.append(Contestant(name, run, numerics, _array))
    return contestants


def look(setting: Setting, name: str, layers: int, pixels: np.ndarray) -> list[Contestant]:
    """A tower, or a language side, on what it reads (images, rows, numbers of a row), all in one batch."""
    from .media_modules import module_in

    torch.set_num_threads(setting.threads)
    contestants = []
    for own, numerics, dtype in (*DTYPES, ("torch int8", "int8", torch.float32)):
        if numerics not in setting.dtypes:
            continue
        module, given = module_in(name, layers, numerics), torch.from_numpy(pixels).to(dtype)

        def run(module: torch.nn.Module = module, given: torch.Tensor = given) -> torch.Tensor:
            with torch.inference_mode():
                return module(given)

        contestants.append(Contestant(own, run, numerics, lambda out: first(_array(out))))
    return contestants


def linear_lora(
    setting: Setting,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    lora_a: np.ndarray,
    lora_b: np.ndarray,
    lora_ids: np.ndarray,
) -> list[Contestant]:
    """As `linear`, then one adapter after the other on the rows that have it, which are known before."""
    torch.set_num_threads(setting.threads)
    places = [torch.from_numpy(np.flatnonzero(lora_ids == number)) for number in range(len(lora_a))]
    contestants = []
    for name, numerics, dtype in DTYPES:
        tensors = [torch.from_numpy(array).to(dtype) for array in (x, weight, bias, lora_a, lora_b)]

        def run(tensors: list[torch.Tensor] = tensors) -> torch.Tensor:
            rows, weights, shift, shrink, expand = tensors
            with torch.inference_mode():
                result = torch.nn.functional.linear(rows, weights, shift)
                for number, mine in enumerate(places):
                    result.index_add_(0, mine, rows[mine] @ shrink[number].T @ expand[number].T)
                return result

        contestants.append(Contestant(name, run, numerics, _array))
    return contestants


def attention(
    setting: Setting, q: np.ndarray, k: np.ndarray, v: np.ndarray, lengths: np.ndarray, slopes: np.ndarray | None
) -> list[Contestant]:
    """q, k, v (total_tokens, heads, head_dim) f32, sequences of `lengths`: scaled_dot_product_attention, all at once
    where they are of one length; else sorted by length, in batches padded to their longest, with a mask. ALiBi is a
    mask as well. Results are packed again outside the time."""
    torch.set_num_threads(setting.threads)
    if slopes is not None and 4 * len(slopes) * int(lengths.max()) ** 2 > MAX_BIAS:
        raise AbsentError(f"its bias for ALiBi at {lengths.max()} tokens does not fit {MAX_BIAS / 1e9:g} GB")
    order = np.argsort(-lengths, kind="stable")
    size = len(lengths) if (lengths == lengths[0]).all() else PADDED_BATCH
    places = [order[start : start + size] for start in range(0, len(order), size)]
    contestants = []
    for name, numerics, dtype in DTYPES:
        batches = [_padded((q, k, v), lengths, some, slopes, dtype) for some in places]

        def run(batches: list[list[torch.Tensor | None]] = batches) -> list[torch.Tensor]:
            with torch.inference_mode():
                return [
                    torch.nn.functional.scaled_dot_product_attention(*tensors, attn_mask=mask)
                    for *tensors, mask in batches
                ]

        def read(found: list[torch.Tensor]) -> np.ndarray:
            packed, starts = np.empty(q.shape, np.float32), np.cumsum([0, *lengths])
            for some, out in zip(places, found, strict=True):
                for place, rows in zip(some, _array(out.transpose(1, 2)), strict=True):
                    packed[starts[place] : starts[place + 1]] = rows[: lengths[place]]
            return packed

        contestants.append(Contestant(name, run, numerics, read))
    return contestants


def _padded(
    packed: tuple[np.ndarray, ...], lengths: np.ndarray, some: np.ndarray, slopes: np.ndarray | None, dtype: torch.dtype
) -> list[torch.Tensor | None]:
    """q, k, v (batch, heads, longest, head_dim) and what is added to scores, or None, for the sequences `some`."""
    longest, starts = int(lengths[some].max()), np.cumsum([0, *lengths])
    tensors: list[torch.Tensor | None] = []
    for part in packed:
        batch = np.zeros((len(some), longest, *part.shape[1:]), np.float32)
        for row, place in enumerate(some):
            batch[row, : lengths[place]] = part[starts[place] : starts[place + 1]]
        tensors.append(torch.from_numpy(batch).transpose(1, 2).contiguous().to(dtype))
    bias: torch.Tensor | None = None
    if slopes is not None:
        distance = np.abs(np.subtract.outer(np.arange(longest), np.arange(longest)))
        bias = torch.from_numpy((-slopes[:, None, None] * distance).astype(np.float32)[None])
    if (lengths[some] != longest).any():
        is_padding = np.arange(longest) >= lengths[some][:, None]
        mask = torch.from_numpy(np.where(is_padding, -np.inf, 0).astype(np.float32))[:, None, None, :]
        bias = mask if bias is None else bias + mask
    return [*tensors, None if bias is None else bias.to(dtype)]


def maxsim(setting: Setting, query: np.ndarray, docs: np.ndarray) -> list[Contestant]:
    """query (tokens, dim), docs (n, tokens, dim) f32: multiply, take the largest, add up."""
    torch.set_num_threads(setting.threads)
    num_docs, doc_tokens, dim = docs.shape
    contestants = []
    for name, numerics, dtype in DTYPES:
        asked, rows = torch.from_numpy(query).to(dtype), torch.from_numpy(docs.reshape(-1, dim)).to(dtype)

        def run(asked: torch.Tensor = asked, rows: torch.Tensor = rows) -> torch.Tensor:
            with torch.inference_mode():
                return (asked @ rows.T).view(len(asked), num_docs, doc_tokens).amax(2).float().sum(0)

        contestants.append(Contestant(name, run, numerics, _array))
    return contestants


def span_mean(setting: Setting, hidden: np.ndarray, spans: np.ndarray) -> list[Contestant]:
    """segment_reduce, which takes only spans that part the rows; none for others."""
    torch.set_num_threads(setting.threads)
    starts, ends = spans.T
    if starts[0] != 0 or ends[-1] != len(hidden) or (starts[1:] != ends[:-1]).any():
        return []
    lengths, rows = torch.from_numpy((ends - starts).astype(np.int64)), torch.from_numpy(hidden)
    return [Contestant("torch segment_reduce", lambda: torch.segment_reduce(rows, "mean", lengths=lengths))]


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().numpy()

"""The CUDA kernels' backends: torch tensors on a GPU in and out, on torch's current stream; nothing is waited for."""

from __future__ import annotations

import numpy as np
import torch

try:
    from longspan import _cuda
except ImportError as error:
    raise ImportError(
        "this build has no CUDA kernels; where nvcc 12.8 or newer is: "
        "pip install . --config-settings=cmake.define.LONGSPAN_CUDA=ON"
    ) from error


def binarize(x: torch.Tensor, *, thresholds: torch.Tensor | None) -> torch.Tensor:
    """As `ops.binarize`; a NaN's bit is 0."""
    codes = torch.empty((x.shape[0], (x.shape[1] + 7) // 8), dtype=torch.uint8, device=x.device)
    limits = None if thresholds is None else capsule(thresholds.to(torch.float32).contiguous())
    _cuda.binarize(capsule(x), limits, capsule(codes), stream_of(x))
    return codes


def hamming(q: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """As `ops.hamming`."""
    out = torch.empty((q.shape[0], codes.shape[0]), dtype=torch.int32, device=q.device)
    if out.numel() > 0:
        _cuda.hamming(capsule(q), capsule(codes), capsule(out), stream_of(q))
    return out


def hamming_topk(
    q: torch.Tensor, codes: torch.Tensor, k: int, *, filter: torch.Tensor | np.ndarray | None, tie_ranks: None
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `ops.hamming_topk`, always with k columns: past what `filter` lets through, distance 2^31 - 1 and row -1."""
    assert tie_ranks is None
    shape = (q.shape[0], k)
    distances = torch.empty(shape, dtype=torch.int32, device=q.device)
    rows = torch.empty(shape, dtype=torch.int64, device=q.device)
    if rows.numel() == 0:
        return distances, rows
    stream = stream_of(q)
    size = _cuda.hamming_topk_workspace(capsule(q), capsule(codes), k)
    workspace = torch.empty(size, dtype=torch.uint8, device=q.device)
    keys = torch.empty(shape, dtype=torch.int64, device=q.device)
    bits = None if filter is None else capsule(_filter_bits(filter, q.device))
    _cuda.hamming_topk(capsule(q), capsule(codes), bits, capsule(keys), capsule(workspace), stream)
    is_sorted = k > _cuda.MAX_SORTED
    if is_sorted:
        keys = keys.sort(dim=1).values
    _cuda.hamming_results(capsule(keys), is_sorted, capsule(distances), capsule(rows), stream)
    return distances, rows


def span_mean(
    hidden: torch.Tensor,
    spans: torch.Tensor,
    *,
    truncate_dim: int | None,
    normalize: bool,
    out: torch.Tensor | None,
) -> torch.Tensor:
    """As `ops.span_mean`; the mean of a span that is empty or reaches outside is NaN."""
    shape = (spans.shape[0], truncate_dim or hidden.shape[1])
    fits = out is not None and (shape[1] == 1 or out.stride(1) == 1)
    means = out if out is not None and fits else torch.empty(shape, dtype=torch.float32, device=hidden.device)
    _cuda.span_mean(capsule(hidden), capsule(spans.contiguous()), normalize, capsule(means), stream_of(hidden))
    return means if out is None or fits else out.copy_(means)


def capsule(tensor: torch.Tensor) -> object:
    """The DLPack capsule of a tensor, of a copy where its last axis is not contiguous. A copy lives no longer than the
    capsule: torch's allocator hands its memory out again in the stream's order, behind the kernel that reads it."""
    readable = tensor if tensor.shape[-1] <= 1 or tensor.stride(-1) == 1 else tensor.contiguous()
    # Not `__dlpack__`, which refuses tensors of other devices than the current one: the kernels make theirs current,
    # and run on torch's stream there, so that no event between streams is wanted either.
    return torch.utils.dlpack.to_dlpack(readable.detach())


def stream_of(tensor: torch.Tensor) -> int:
    """torch's current stream on the tensor's device."""
    return torch.cuda.current_stream(tensor.device).cuda_stream


def _filter_bits(filter: torch.Tensor | np.ndarray, device: torch.device) -> torch.Tensor:
    """(ceil(n / 8),) uint8 on `device`, most significant bit first, of that or of (n,) bool."""
    if isinstance(filter, np.ndarray):
        return torch.from_numpy(filter).to(device, non_blocking=True)
    if filter.dtype == torch.uint8:
        return filter.contiguous()
    padded = torch.nn.functional.pad(filter.to(torch.int32), (0, -filter.shape[0] % 8)).view(-1, 8)
    return (padded << torch.arange(7, -1, -1, dtype=torch.int32, device=device)).sum(dim=1).to(torch.uint8)

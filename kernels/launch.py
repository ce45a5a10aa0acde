"""What the launchers share: tile maps over packed rows, the device to launch on, when to go past torch's dispatcher.

Triton compiles a kernel anew for a number that is 1, one that is a multiple of 16, and any other. Kernels name in
`do_not_specialize` the numbers that change from batch to batch and gain nothing by it, such as that of the sequences.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
import triton
import triton.language as tl

LAUNCH = {"enable_fp_fusion": True}  # Triton 3.10 will otherwise stop fusing multiply and add
SEARCH = tl.constexpr(256)  # offsets that one step of `find_sequence` looks at


@triton.jit
def find_sequence(cu_seqlens_ptr, num_sequences, tile, BLOCK: tl.constexpr):
    """The sequence that owns `tile`, and how many of its tiles come before.

    Sequence s owns the tiles from cu_seqlens[s] // BLOCK + s up to that of s + 1: as many as it has rows to fill, and
    at most one more. So a grid of total // BLOCK + num_sequences tiles covers any batch, and neither a pass over the
    lengths nor a copy to the host is needed to know it.
    """
    owner = -1
    for start in range(0, num_sequences, SEARCH):
        s = start + tl.arange(0, SEARCH)
        first = tl.load(cu_seqlens_ptr + s, mask=s < num_sequences, other=0) // BLOCK + s
        owner += tl.sum(((first <= tile) & (s < num_sequences)).to(tl.int32))
    return owner, tile - (tl.load(cu_seqlens_ptr + owner) // BLOCK + owner)


def num_tiles(total: int, num_sequences: int, block: int) -> int:
    """The length of a grid over tiles of `block` packed rows, none of which holds rows of two sequences."""
    return total // block + num_sequences


def divided_up(n: int, by: int) -> int:
    """ceil(n / by): Triton's own cdiv costs the host microseconds."""
    return -(-n // by)


def power_of_2(n: int, least: int = 1) -> int:
    """The smallest power of 2 that is at least `n` and `least`."""
    return max(least, 1 << max(n - 1, 0).bit_length())


def rows_readable(x: torch.Tensor) -> torch.Tensor:
    """`x`, or a copy if its last axis is not contiguous: kernels take any other strides."""
    return x if x.shape[-1] <= 1 or x.stride(-1) == 1 else x.contiguous()


def on_device(x: torch.Tensor) -> contextlib.AbstractContextManager[object]:
    """Launches within it go to the device of `x`, which need not be the current one."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()


@functools.cache
def architecture(device: torch.device) -> int:
    """The compute capability of a device, as 90 for 9.0; 90 too where kernels are interpreted."""
    if device.type != "cuda":
        return 90
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


class Launcher:
    """Launches a kernel past Triton's own binding of its arguments, which costs the host 20 to 80 microseconds a call.

    What Triton compiles anew for is looked up here: dtypes, what is None, numbers that are not named in
    `do_not_specialize`, constants, and pointers that are no multiples of 16. The first launch of a kind is Triton's,
    which gives out the compiled kernel; later ones hand it addresses. Kernels list their parameters in the order of
    `__call__`'s arguments.
    """

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self._compiled: dict[Hashable, Any] = {}
        self._lock = threading.Lock()

    def __call__(
        self,
        grid: tuple[int, ...],
        tensors: tuple[torch.Tensor | None, ...],
        varying: tuple[int, ...],
        fixed: tuple[float | None, ...],
        constants: tuple[Hashable, ...],
        num_warps: int,
        num_stages: int = 3,
    ) -> None:
        """Launch on the current stream of the current device, which the tensors lie on.

        Args:
            tensors: or None, which kernels test for; the first is one.
            varying: what is named in `do_not_specialize`.
            fixed: the kernel's other numbers, or None; few combinations ever come.
            constants: its constexpr parameters.
        """
        self.prepared(grid, tensors, varying, fixed, constants, num_warps, num_stages)()

    def prepared(
        self,
        grid: tuple[int, ...],
        tensors: tuple[torch.Tensor | None, ...],
        varying: tuple[int, ...],
        fixed: tuple[float | None, ...],
        constants: tuple[Hashable, ...],
        num_warps: int,
        num_stages: int = 3,
        free: tuple[int, ...] = (),
    ) -> Callable[..., object]:
        """The launch, to be made as often as wanted; it keeps the tensors alive. Arguments as there, and

        free: the places of tensors, not None, that each call gives anew, like these: another layer's.
        """
        first = tensors[0]
        assert first is not None
        if not launches_fast(first):
            options = {"num_warps": num_warps, "num_stages": num_stages, **LAUNCH}

            def plain(*given: torch.Tensor) -> None:
                self.kernel[grid](*_with(tensors, free, given), *varying, *fixed, *constants, **options)

            return plain
        addresses: list[int | None] = []
        low = 0
        for tensor in tensors:
            if tensor is None:
                addresses.append(None)
                continue
            address = tensor.data_ptr()
            low |= address
            addresses.append(address)
        aligned = True if low & 15 == 0 else tuple([address is None or address & 15 == 0 for address in addresses])
        device = first.get_device()
        kinds = tuple([None if tensor is None else tensor.dtype for tensor in tensors])
        is_large = len(varying) > 0 and max(varying) > INT32_MAX
        key = device, aligned, is_large, num_warps, num_stages, kinds, fixed, constants
        found = self._compiled.get(key)
        if found is None:
            options = {"num_warps": num_warps, "num_stages": num_stages, **LAUNCH}
            # Triton has no lock of its own: while one thread loads a kernel, another finds its `run` and no function.
            with self._lock:
                compiled = self.kernel.run(*tensors, *varying, *fixed, *constants, grid=grid, warmup=True, **options)
                run = compiled.run  # loads it
                found = self._compiled[key] = run, compiled.function, compiled.packed_metadata
        run, function, metadata = found
        width, height, depth = grid if len(grid) == 3 else (*grid, 1, 1)[:3]

        arguments = [*addresses, *varying, *fixed, *constants]

        def launch(*given: torch.Tensor) -> None:
            values, low = arguments, 0
            if given:
                values = arguments.copy()  # threads may launch at once
                for place, tensor in zip(free, given):
                    values[place] = address = tensor.data_ptr()
                    low |= address
            if low & 15:  # this one may not be like the first
                self(grid, _with(tensors, free, given), varying, fixed, constants, num_warps, num_stages)
                return
            run(width, height, depth, stream_of(device), function, metadata, None, None, None, *values)

        return launch


def _with(
    tensors: tuple[torch.Tensor | None, ...], free: tuple[int, ...], given: Sequence[torch.Tensor]
) -> tuple[torch.Tensor | None, ...]:
    """The tensors with those given in their places."""
    found = [*tensors]
    for place, tensor in zip(free, given):
        found[place] = tensor
    return (*found,)


INT32_MAX = 2**31 - 1


def launches_fast(tensor: torch.Tensor) -> bool:
    """Whether compiled kernels run on it."""
    return tensor.is_cuda


def stream_of(device: int) -> int:
    """The address of torch's current stream there."""
    stream: int = torch._C._cuda_getCurrentRawStream(device)
    return stream


def needs_dispatcher(tensors: Sequence[torch.Tensor | None]) -> bool:
    """Whether a call must go through torch's dispatcher: it is traced, a gradient is asked for, or a tensor is not a
    plain one. Otherwise its launcher is called at once, which saves some tens of microseconds."""
    if torch.compiler.is_compiling():
        return True
    present = [x for x in tensors if x is not None]
    if torch.is_grad_enabled() and any(x.requires_grad for x in present):
        return True
    return any(type(x) not in (torch.Tensor, torch.nn.Parameter) for x in present)


def fill(out: torch.Tensor | None, result: torch.Tensor) -> torch.Tensor:
    """`result`, or `out` holding it."""
    return result if out is None else out.copy_(result)

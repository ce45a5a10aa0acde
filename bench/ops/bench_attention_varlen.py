"""GFLOP/s of attention_varlen, plain, with ALiBi and with RoPE, beside torch's attention without a bias.

    python -m bench.ops.bench_attention_varlen --threads 2

q, k and v are slices of one fused projection, about 8192 tokens in sequences of one length. torch gets the same values
as a batch without padding, each of q, k and v by itself. A matrix product counts two operations: 4 * length^2 *
head_dim a sequence and head; the exponentials, the bias and the rotation are not counted. Before any timing the last
rows of the first sequence are compared with the float64 reference, and torch's result with ours.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench.record import busy_warning, write_json
from bench.timing import Spread, interleave, speedup

TOTAL_TOKENS: Final = 8192
LENGTHS: Final = (16, 128, 512, 2048, 8192)
HEADS: Final = ((12, 32), (12, 64))  # MiniLM; BERT, XLM-R and jina v2 base
PEER: Final = "torch"
CHECKED_ROWS: Final = 64
# Scores of ordinary size: float32 sums of a few thousand weights are good to about a millionth.
MAX_DIFFERENCE: Final = 1e-5


@dataclass(frozen=True, slots=True)
class Work:
    """Sequences of one length; fused (total_tokens, 3, num_heads, head_dim)."""

    length: int
    fused: np.ndarray

    @property
    def num_sequences(self) -> int:
        return len(self.fused) // self.length

    @property
    def operations(self) -> float:
        """In the two matrix products."""
        _, _, num_heads, head_dim = self.fused.shape
        return 4.0 * self.length**2 * head_dim * num_heads * self.num_sequences

    def options(self) -> dict[str, dict[str, np.ndarray]]:
        """What attention_varlen is given, by the name of the contestant."""
        _, _, num_heads, head_dim = self.fused.shape
        half = head_dim // 2
        angles = np.outer(np.arange(self.length), 10000.0 ** -(np.arange(half) / half))
        return {
            "plain": {},
            "alibi": {"slopes": (2.0 ** -np.arange(1, num_heads + 1)).astype(np.float32)},
            "rope": {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)},
        }


def make_work(length: int, num_heads: int, head_dim: int) -> Work:
    """Standard normal values."""
    rows = TOTAL_TOKENS // length * length
    fused = np.random.default_rng([length, num_heads, head_dim]).standard_normal((rows, 3, num_heads, head_dim))
    return Work(length, fused.astype(np.float32))


def check(work: Work, got: np.ndarray, options: dict[str, np.ndarray]) -> None:
    """Raises: RuntimeError, the last rows of the first sequence are not what the reference says."""
    from longspan import reference

    rows = min(CHECKED_ROWS, work.length)
    q, k, v = (work.fused[: work.length, i].astype(np.float64) for i in range(3))
    ends = [np.array([0, n], np.int32) for n in (rows, work.length)]
    double = {name: value.astype(np.float64) for name, value in options.items()}
    truth = reference.attention_varlen(q[-rows:], k, v, *ends, **double)  # type: ignore[arg-type]
    _agree("attention_varlen and its reference", got[work.length - rows : work.length], truth)


def _agree(names: str, a: np.ndarray, b: np.ndarray) -> None:
    if not (difference := float(np.abs(a - b).max())) <= MAX_DIFFERENCE:
        raise RuntimeError(f"{names} differ by {difference:.1e}, more than {MAX_DIFFERENCE:g}: nothing is timed")


def contestants(work: Work, num_threads: int, with_torch: bool) -> dict[str, Callable[[], object]]:
    """What to time, after checking it."""
    from longspan import _core, ops

    _core.set_num_threads(num_threads)
    q, k, v = (work.fused[:, i] for i in range(3))
    cu_seqlens = np.arange(work.num_sequences + 1, dtype=np.int32) * np.int32(work.length)
    out = np.empty(q.shape, np.float32)
    calls: dict[str, Callable[[], object]] = {}
    plain = out
    for name, options in work.options().items():

        def call(options: dict[str, np.ndarray] = options) -> object:
            return ops.attention_varlen(q, k, v, cu_seqlens, cu_seqlens, **options, out=out)  # type: ignore[arg-type]

        call()
        check(work, out, options)
        plain = out.copy() if name == "plain" else plain
        calls[name] = call
    if with_torch:
        calls[PEER] = _torch_call(work, num_threads, plain)
    return calls


def _torch_call(work: Work, num_threads: int, ours: np.ndarray) -> Callable[[], object]:
    import torch

    torch.set_num_threads(num_threads)
    _, _, num_heads, head_dim = work.fused.shape
    shape = (work.num_sequences, work.length, num_heads, head_dim)
    q, k, v = (
        torch.from_numpy(np.ascontiguousarray(work.fused[:, i].reshape(shape).transpose(0, 2, 1, 3))) for i in range(3)
    )

    def call() -> object:
        with torch.inference_mode():
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    theirs = np.asarray(call()).transpose(0, 2, 1, 3).reshape(ours.shape)
    _agree("torch and attention_varlen", theirs, ours)
    return call


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.ops.bench_attention_varlen", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of every contestant (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2, help="for each length and head size (%(default)s)")
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS), help="tokens a sequence (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0; 1 where a result is wrong."""
    options = parse(argv)
    warning = busy_warning()
    with_torch = importlib.util.find_spec(PEER) is not None
    print(
        f"GFLOP/s, {options.threads} threads, median (p20 .. p80)" + ("" if with_torch else "; torch is not installed")
    )
    rows: list[dict[str, object]] = []
    for num_heads, head_dim in HEADS:
        for length in options.lengths:
            work = make_work(length, num_heads, head_dim)
            try:
                calls = contestants(work, options.threads, with_torch)
            except RuntimeError as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
            times = interleave(calls, seconds=options.seconds)
            print(f"{num_heads} heads of {head_dim}, {work.num_sequences} x {length} tokens", flush=True)
            for name, each in times.items():
                rate = Spread.of([work.operations / seconds / 1e9 for seconds in each])
                ratio = speedup(each, times[PEER]) if with_torch and name != PEER else None
                print(f"    {name:<6} {rate.text(0):<22}" + (f" {ratio.text()} x torch" if ratio else ""), flush=True)
                rows.append(
                    {
                        "num_heads": num_heads,
                        "head_dim": head_dim,
                        "length": length,
                        "contestant": name,
                        "gflops": rate.median,
                        "over_torch": ratio.median if ratio else None,
                    }
                )
    if warning:
        print(warning)
    if options.json is not None:
        write_json(options.json, "ops.attention_varlen", {"threads": options.threads, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())

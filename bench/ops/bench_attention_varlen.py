"""GFLOP/s of attention_varlen in float32 and bfloat16, plain, with ALiBi and with RoPE, beside torch's without a bias.

    python -m bench.ops.bench_attention_varlen --threads 2
    python -m bench.ops.bench_attention_varlen --memory

q, k and v are slices of one fused projection, about 8192 tokens in sequences of one length. torch gets the same values
as a batch without padding, each of q, k and v by itself, once in float32 and once in bfloat16; "x torch" is over the
faster of the two, round by round. A matrix product counts two operations: 4 * length^2 * head_dim a sequence and head;
the exponentials, the bias and the rotation are not counted. Before any timing the last rows of the first sequence are
compared with the float64 reference, and torch's result with ours.

--memory: what one call on 8192 tokens with ALiBi adds to the peak of resident memory, each contestant in a fresh
process that has called it on 8 tokens before; torch gets ALiBi as a tensor, which is how it takes a bias.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench.record import busy_warning, write_json
from bench.timing import Spread, interleave, speedup

TOTAL_TOKENS: Final = 8192
LENGTHS: Final = (32, 128, 512, 2048, 8192)
HEADS: Final = ((12, 32), (12, 64))  # MiniLM; BERT, XLM-R and jina v2 base
DTYPES: Final = ("float32", "bfloat16")
PEER: Final = "torch"
PLAIN: Final = "plain"
CHECKED_ROWS: Final = 64
# Scores of ordinary size: float32 sums of a few thousand weights are good to about a millionth.
MAX_DIFFERENCE: Final = 1e-5
BF16_ROUNDING: Final = 2.0**-8
MEMORY_TOKENS: Final = 8192
PAUSE: Final = 0.005  # before each call: torch's threads spin on for a while after theirs


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
            PLAIN: {},
            "alibi": {"slopes": (2.0 ** -np.arange(1, num_heads + 1)).astype(np.float32)},
            "rope": {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)},
        }


def make_work(length: int, num_heads: int, head_dim: int) -> Work:
    """Standard normal values."""
    rows = TOTAL_TOKENS // length * length
    fused = np.random.default_rng([length, num_heads, head_dim]).standard_normal((rows, 3, num_heads, head_dim))
    return Work(length, fused.astype(np.float32))


def check(work: Work, got: np.ndarray, options: dict[str, np.ndarray], dtype: str) -> float:
    """The largest error that is in order.

    Raises: RuntimeError, the last rows of the first sequence have a larger one.
    """
    from longspan import reference

    rows = min(CHECKED_ROWS, work.length)
    q, k, v = (work.fused[: work.length, i] for i in range(3))
    inputs = (q[-rows:], k, v)
    ends = [np.array([0, n], np.int32) for n in (rows, work.length)]
    double = {name: value.astype(np.float64) for name, value in options.items()}
    truth = reference.attention_varlen(*(x.astype(np.float64) for x in inputs), *ends, **double)  # type: ignore[arg-type]
    limit = MAX_DIFFERENCE
    if dtype == "bfloat16":  # twice what the same maths has
        native = reference.attention_varlen(*inputs, *ends, **options, dtype=dtype)  # type: ignore[arg-type]
        limit = 2 * float(np.abs(native - truth).max())
    _agree("attention_varlen and its reference", got[work.length - rows : work.length], truth, limit)
    return limit


def _agree(names: str, a: np.ndarray, b: np.ndarray, limit: float) -> None:
    if not (difference := float(np.abs(a - b).max())) <= limit:
        raise RuntimeError(f"{names} differ by {difference:.1e}, more than {limit:.1e}: nothing is timed")


def contestants(work: Work, num_threads: int, with_torch: bool) -> dict[str, Callable[[], object]]:
    """What to time, after checking it."""
    from longspan import _core, ops

    _core.set_num_threads(num_threads)
    q, k, v = (work.fused[:, i] for i in range(3))
    cu_seqlens = np.arange(work.num_sequences + 1, dtype=np.int32) * np.int32(work.length)
    out = np.empty(q.shape, np.float32)
    calls: dict[str, Callable[[], object]] = {}
    for dtype in DTYPES:
        for name, options in work.options().items():

            def call(options: dict[str, np.ndarray] = options, dtype: str = dtype) -> object:
                arguments = {**options, "dtype": dtype, "out": out}
                return ops.attention_varlen(q, k, v, cu_seqlens, cu_seqlens, **arguments)  # type: ignore[arg-type]

            call()
            limit = check(work, out, options, dtype)
            calls[f"{dtype} {name}"] = call
            if with_torch and not options:
                calls[f"{PEER} {dtype}"] = _torch_call(work, num_threads, dtype, out, limit)
    return calls


def _torch_call(work: Work, num_threads: int, dtype: str, ours: np.ndarray, limit: float) -> Callable[[], object]:
    import torch

    torch.set_num_threads(num_threads)
    _, _, num_heads, head_dim = work.fused.shape
    shape = (work.num_sequences, work.length, num_heads, head_dim)
    q, k, v = (
        torch.from_numpy(np.ascontiguousarray(work.fused[:, i].reshape(shape).transpose(0, 2, 1, 3))).to(
            getattr(torch, dtype)
        )
        for i in range(3)
    )

    def call() -> torch.Tensor:
        with torch.inference_mode():
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    theirs = np.asarray(call().float()).transpose(0, 2, 1, 3).reshape(ours.shape)
    if (
        dtype == "bfloat16"
    ):  # both err, in all rows and not only in those that were checked, and torch rounds its result
        limit = 4 * limit + BF16_ROUNDING * float(np.abs(ours).max())
    _agree(f"torch and attention_varlen in {dtype}", theirs, ours, limit)
    return call


def use_memory(contestant: str) -> int:
    """Bytes that a call on MEMORY_TOKENS tokens adds to this process's peak: run it in a fresh one."""
    import resource

    num_heads, head_dim = HEADS[-1]
    call = _torch_with_bias if contestant == PEER else _with_slopes
    q = np.random.default_rng(0).standard_normal((MEMORY_TOKENS, num_heads, head_dim), dtype=np.float32)
    out = np.ones_like(q)
    slopes = (2.0 ** -np.arange(1, num_heads + 1)).astype(np.float32)
    call(q[:8], slopes, out[:8], contestant)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call(q, slopes, out, contestant)
    unit = 1 if sys.platform == "darwin" else 1024
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit


def _with_slopes(q: np.ndarray, slopes: np.ndarray, out: np.ndarray, dtype: str) -> None:
    from longspan import ops

    cu_seqlens = np.array([0, len(q)], np.int32)
    ops.attention_varlen(q, q, q, cu_seqlens, cu_seqlens, slopes=slopes, dtype=dtype, out=out)  # type: ignore[arg-type]


def _torch_with_bias(q: np.ndarray, slopes: np.ndarray, out: np.ndarray, _: str) -> None:
    import torch

    heads = torch.from_numpy(q).transpose(0, 1).unsqueeze(0)
    positions = torch.arange(len(q), dtype=torch.float32)
    bias = torch.empty(1, len(slopes), len(q), len(q))
    for head, slope in enumerate(slopes.tolist()):
        torch.sub(positions, positions[:, None], out=bias[0, head]).abs_().mul_(-slope)
    with torch.inference_mode():
        result = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads, attn_mask=bias)
    out[:] = result[0].transpose(0, 1).numpy()


def print_memory(with_torch: bool) -> list[dict[str, object]]:
    """The table of --memory."""
    rows: list[dict[str, object]] = []
    for contestant in (*DTYPES, *([PEER] if with_torch else [])):
        code = f"from bench.ops.bench_attention_varlen import use_memory; print(use_memory({contestant!r}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(f"{contestant:<10} stopped with status {done.returncode}: out of memory?", flush=True)
            continue
        rows.append({"contestant": contestant, "tokens": MEMORY_TOKENS, "extra_bytes": int(done.stdout)})
        print(f"{contestant:<10} {int(done.stdout) / 1e6:8.1f} MB more at {MEMORY_TOKENS} tokens", flush=True)
    return rows


def measure(work: Work, calls: dict[str, Callable[[], object]], seconds: float) -> list[dict[str, object]]:
    """Ours among themselves, which shows what a bias costs; then without a bias in turn with torch. Prints both."""
    ours = {name: call for name, call in calls.items() if not name.startswith(PEER)}
    alone = interleave(ours, seconds=seconds / 2)
    times = dict(alone)
    if len(ours) < len(calls):
        contest = {name: call for name, call in calls.items() if name.startswith(PEER) or name.endswith(PLAIN)}
        times |= {
            f"{name} in turn": each for name, each in interleave(contest, seconds=seconds / 2, pause=PAUSE).items()
        }
    theirs = [each for name, each in times.items() if name.startswith(PEER)]
    rows: list[dict[str, object]] = []
    for name, each in times.items():
        row: dict[str, object] = {"length": work.length, "contestant": name}
        rate = Spread.of([work.operations / one / 1e9 for one in each])
        row["gflops"] = rate.median
        line = f"    {name:<24} {rate.text(0):<20}"
        if name in alone and not name.endswith(PLAIN):
            cost = speedup(alone[f"{name.split()[0]} {PLAIN}"], each)
            row["time_over_plain"] = cost.median
            line += f" {cost.text()} x the time of {PLAIN}"
        elif name not in alone and not name.startswith(PEER):
            ratio = speedup(each, [min(both) for both in zip(*theirs, strict=True)])
            row["over_torch"] = ratio.median
            line += f" {ratio.text()} x torch"
        print(line, flush=True)
        rows.append(row)
    return rows


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.ops.bench_attention_varlen", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of every contestant (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2, help="for each length and head size (%(default)s)")
    parser.add_argument("--lengths", type=int, nargs="+", default=list(LENGTHS), help="tokens a sequence (%(default)s)")
    parser.add_argument("--memory", action="store_true", help="extra memory at 8192 tokens instead of times")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command. Returns: 0; 1 where a result is wrong."""
    options = parse(argv)
    with_torch = importlib.util.find_spec(PEER) is not None
    if options.memory:
        table = print_memory(with_torch)
        if options.json is not None:
            write_json(options.json, "ops.attention_varlen", {"memory": table})
        return 0
    warning = busy_warning()
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
            print(f"{num_heads} heads of {head_dim}, {work.num_sequences} x {length} tokens", flush=True)
            rows += [
                {"num_heads": num_heads, "head_dim": head_dim, **row} for row in measure(work, calls, options.seconds)
            ]
    if warning:
        print(warning)
    if options.json is not None:
        write_json(options.json, "ops.attention_varlen", {"threads": options.threads, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())

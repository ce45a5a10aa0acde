"""A whole model in float64: our own forward pass over the ops' plain references, and the same in coarser numerics.

The forward pass is held against independent implementations by the tests (`tests/golden`); the references are plain
NumPy. Here both run in float64, so that what is left against a runtime is the runtime's rounding. With products in
bfloat16 or int8 they say how large the rounding of those numerics is by itself, whoever does it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from longspan import reference
from longspan.checkpoint.checkpoint import Checkpoint
from longspan.models import detect_family
from longspan.models.encoder import TextEncoder
from longspan.models.engines.engine import OpsEngine
from longspan.models.engines.workspace import Workspace
from longspan.models.spec import NormKind
from longspan.models.weights import load_weights
from longspan.packing.batch import pack

from .cache import kept
from .case import Numerics

if TYPE_CHECKING:
    from longspan.models.parts import AttentionOptions, Norm, Product

# Half a unit in the last place of a result that is kept in the numerics, as torch's are, relative to it.
KEPT_IN: Final[Mapping[Numerics, float]] = {"bfloat16": 2.0**-9, "float16": 2.0**-12}
FACTOR: Final = 2.0  # a runtime's order of sums may be unluckier than ours
COARSER: Final[tuple[Numerics, ...]] = ("bfloat16", "int8")
Truth: TypeAlias = tuple[np.ndarray, dict[Numerics, float]]  # float64, and the largest error of each numerics
FLOAT32_LIMIT: Final = 1e-5  # of unit vectors; two float32 runtimes are within 1e-6, the rest is room for other models


@dataclass(frozen=True, slots=True)
class _Weights:
    """A product's weights as they are."""

    weights: np.ndarray  # (out, in) f64, rounded to the numerics
    biases: np.ndarray | None
    gate: str | None

    @property
    def out_features(self) -> int:
        """Columns of the output: half the rows of gated weights."""
        return len(self.weights) // (1 if self.gate is None else 2)


class ReferenceEngine(OpsEngine):
    """Computes by the references in float64; what goes into products is rounded to `numerics` first."""

    def __init__(self, numerics: Numerics = "float32") -> None:
        super().__init__("float32")
        self.numerics: Final = numerics

    def pack(self, weights: Sequence[np.ndarray], biases: Any = None, gate: Any = None) -> Any:
        matrix = np.concatenate([np.asarray(part, np.float64) for part in weights])
        parts = [] if biases is None else [None if bias is None else np.asarray(bias, np.float64) for bias in biases]
        shift: np.ndarray | None = None
        if any(part is not None for part in parts):
            zeros = [np.zeros(len(part)) for part in weights]
            shift = np.concatenate([zero if part is None else part for part, zero in zip(parts, zeros, strict=True)])
        return _Weights(rounded(matrix, self.numerics, axis=1), shift, gate)

    def pack_exactly(self, weight: np.ndarray, bias: np.ndarray | None) -> Any:
        return self.pack([weight], [bias])

    def empty(self, *shape: int) -> np.ndarray:
        return np.empty(shape)

    def multiply(
        self, x: np.ndarray, product: Product, lora_ids: np.ndarray | None, *, out: np.ndarray, activation: Any = None,
        residual: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        weight: Any = product.weight
        # One scale for all rows: the coarsest of the int8 schemes in use, and what static calibration amounts to.
        inputs = rounded(x, self.numerics, axis=None)
        arguments = {"activation": activation, "gate": weight.gate, "residual": residual}
        out[...] = reference.linear(inputs, weight.weights, weight.biases, **arguments)

    def pool_logits(
        self, x: np.ndarray, product: Product, cu_seqlens: np.ndarray, *, pooling: Any, saturation: Any
    ) -> np.ndarray:
        weight: Any = product.weight
        inputs, how = rounded(x, self.numerics, axis=None), {"pooling": pooling, "saturation": saturation}
        return reference.pool_logits(inputs, weight.weights, weight.biases, cu_seqlens, **how)

    def norm(
        self, x: np.ndarray, norm: Norm, kind: NormKind, eps: float, *, out: np.ndarray,
        residual: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        weight, bias = norm.weight.astype(np.float64), None if norm.bias is None else norm.bias.astype(np.float64)
        if kind == "layer_norm":
            out[...] = reference.layer_norm(x, weight, bias, eps=eps, residual=residual)
        else:
            out[...] = reference.rms_norm(x, weight, eps=eps, residual=residual)

    def attend(
        self,
        q: Any,
        k: Any,
        v: Any,
        cu_seqlens_q: Any,
        cu_seqlens_k: Any,
        options: AttentionOptions,
        *,
        out: Any,
        batch: Any = None,
    ) -> None:
        double: dict[str, Any] = {
            name: value.astype(np.float64) if isinstance(value, np.ndarray) else value
            for name, value in options._asdict().items()
        }
        if self.numerics != "float32":  # ours with int8 layers, too
            q, k, v = (rounded(part, "bfloat16", axis=None) for part in (q, k, v))
        out[...] = reference.attention_varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, **double)


def rounded(x: np.ndarray, numerics: Numerics, axis: int | None) -> np.ndarray:
    """x in float64, its values rounded: to bfloat16, or to 255 steps of the largest along `axis` (None: of all)."""
    if numerics == "bfloat16":
        bits = x.astype(np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(np.float64)
    if numerics == "int8":
        step = np.abs(x).max(axis=axis, keepdims=True) / 127
        return np.rint(x / np.where(step > 0, step, 1)) * step
    return x.astype(np.float64)


def truth_vectors(encoder: TextEncoder, ids: Sequence[np.ndarray], pooling: str) -> np.ndarray:
    """(n, dim) f64 of unit length, in the order of `ids`; pooling "mean" or "cls"."""
    vectors = np.empty((len(ids), encoder.spec.hidden_size))
    for batch in pack(ids, batch_tokens=2048):
        hidden = encoder.forward(batch, Workspace(encoder.engine.empty))
        for row, index in enumerate(batch.indices):
            rows = hidden[batch.cu_seqlens[row] : batch.cu_seqlens[row + 1]]
            vectors[index] = rows[0] if pooling == "cls" else rows.mean(axis=0)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def limits_of(
    truth: np.ndarray, coarser: Mapping[Numerics, np.ndarray], float32: float = FLOAT32_LIMIT
) -> dict[Numerics, float]:
    """How far a contestant may be from `truth`: FACTOR times what the numerics' rounding alone makes of it.

    Args:
        truth: float64.
        coarser: the same maths in float64, on inputs rounded to these numerics.
        float32: the limit of float32, which the others' sums are in as well.
    """
    limits: dict[Numerics, float] = {"float32": float32}
    for numerics, values in coarser.items():
        kept = KEPT_IN.get(numerics, 0.0) * float(np.abs(truth).max())
        limits[numerics] = FACTOR * float(np.abs(values - truth).max()) + float32 + kept
    return limits


def kept_truth(name: str, parts: tuple[str, ...], compute: Callable[[Numerics], np.ndarray]) -> Truth:
    """What `compute` finds in float64, and how far contestants may be from it; kept for the next run, as float64 takes
    longer than all that is measured.

    Args:
        name: what the kept folder's name begins with.
        parts: all that it depends on beside the code of the forward pass, of the references and of random models.
        compute: the same maths in float64, on inputs rounded to the numerics it is given.
    """

    def make(folder: Path) -> None:
        for numerics in ("float32", *COARSER):
            np.save(folder / f"{numerics}.npy", compute(numerics))

    folder = kept(f"truth-{name}", (*parts, _own_code()), make)
    truth, *coarser = (np.load(folder / f"{numerics}.npy") for numerics in ("float32", *COARSER))
    return truth, limits_of(truth, dict(zip(COARSER, coarser, strict=True)))


def _own_code() -> str:
    """A digest of what computes a truth."""
    import longspan

    package, here = Path(longspan.__file__).parent, Path(__file__).parent
    files = [*package.glob("reference/*.py"), *package.glob("models/**/*.py"), *package.glob("packing/*.py")]
    digest = hashlib.sha256()
    for path in sorted([*files, *here.glob("models/random_*.py"), Path(__file__)], key=lambda path: path.name):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def truth_encoder(folder: Path, numerics: Numerics = "float32") -> TextEncoder:
    """The checkpoint's encoder in float64. Raises: CheckpointError, it cannot be read; ValueError, it has a head."""
    checkpoint = Checkpoint.open(folder)
    if checkpoint.head:
        raise ValueError(f"{folder}: the suite compares models that end with pooling, and this one has a dense layer")
    spec, names = detect_family(checkpoint).describe(checkpoint)
    engine = ReferenceEngine(numerics)
    encoder = TextEncoder(spec, load_weights(checkpoint, spec, names, engine), engine)
    checkpoint.close()
    return encoder

"""The projection from hidden states to token vectors, in the layouts in which late-interaction models publish it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.modules import TOKENS, ModuleEntry
from longspan.errors import CheckpointError
from longspan.models.adapters import add_to_product, module_of
from longspan.models.engines.engine import OpsEngine
from longspan.models.parts import Product
from longspan.models.peft import Adapter
from longspan.models.spec import LinearMap
from longspan.pipeline.head import Dense, finish
from longspan.pipeline.purpose import COLBERT as STANFORD

STANFORD_BIAS: Final = "linear.bias"
V4: Final = "multi_vector_projector.weight"
V4_BIAS: Final = "multi_vector_projector.bias"
LAYOUTS: Final = f"{STANFORD} (ColBERT), {V4} (jina-embeddings-v4) or a Dense module (PyLate)"


@dataclass(frozen=True, slots=True)
class Projection:
    """One layer, or PyLate's chain of them, and the adapters of the one."""

    dense: tuple[Dense, ...]
    engine: OpsEngine
    weight: str | None = None  # the one layer's tensor, by which adapters know it; None for a chain, which has none

    @property
    def dim(self) -> int:
        """Values of a token's vector."""
        return self.dense[-1].product.weight.out_features

    def project(self, hidden: np.ndarray, lora_ids: np.ndarray | None, dim: int | None) -> np.ndarray:
        """(tokens, hidden_size) -> (tokens, dim) of unit length, where the engine computes; lora_ids as in
        `PackedBatch`."""
        if self.weight is None:
            return finish(hidden, self.dense, self.engine, truncate_dim=dim, normalize=True)
        vectors = self.engine.empty(len(hidden), self.dim)
        self.engine.multiply(hidden, self.dense[0].product, lora_ids, out=vectors)
        return finish(vectors, (), self.engine, truncate_dim=dim, normalize=True)

    def adapted(self, num_before: int, adapters: Sequence[Adapter]) -> Projection:
        """With the part that these adapters have here, behind the `num_before` that are loaded.

        Raises: CheckpointError, one is for another size.
        """
        if self.weight is None:
            return self
        product, module = self.dense[0].product, module_of(self.weight)
        wanted = (self.dim, product.weight.in_features)
        for adapter in adapters:
            factors = adapter.factors.get(module)
            got = wanted if factors is None else factors.shape
            if got != wanted:
                raise CheckpointError(
                    f"{adapter.folder}: the adapter of {module} must be for {wanted} (out, in) weights, got {got}"
                )
        names = LinearMap((self.weight,))
        product = add_to_product(product, names, (self.dim,), num_before, adapters, self.engine)
        return replace(self, dense=(replace(self.dense[0], product=product),))


def makes_both(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is made for token vectors as well as for one vector, as jina-embeddings-v4 is."""
    return not checkpoint.modules and V4 in checkpoint.tensor_names


def load_projection(checkpoint: Checkpoint, hidden_size: int, engine: OpsEngine) -> Projection:
    """The layers from (tokens, hidden_size) to (tokens, dim), without adapters, packed for `engine`.

    Raises: CheckpointError, there is none, or a tensor has the wrong shape or holds NaN or infinity.
    """
    if checkpoint.modules:
        return Projection(_load_modules(checkpoint, hidden_size, engine), engine)
    names = checkpoint.tensor_names
    if V4 in names:
        return Projection((_load(checkpoint, hidden_size, V4, V4_BIAS, engine),), engine, V4)
    if STANFORD_BIAS in names:
        raise CheckpointError(f"{checkpoint.folder}: tensor {STANFORD_BIAS} is not part of a ColBERT's projection")
    if STANFORD in names:
        return Projection((_load(checkpoint, hidden_size, STANFORD, None, engine),), engine, STANFORD)
    raise CheckpointError(
        f"{checkpoint.folder} is no multi-vector model: it needs {LAYOUTS}, and has none of them; "
        f"one vector a text is longspan.Encoder's"
    )


def _load(checkpoint: Checkpoint, hidden_size: int, weight: str, bias: str | None, engine: OpsEngine) -> Dense:
    shape = checkpoint.shape(weight)
    if len(shape) != 2 or shape[0] < 1 or shape[1] != hidden_size:
        raise CheckpointError(f"{checkpoint.folder}: tensor {weight} must be (dim, {hidden_size}), got {shape}")
    if bias is not None and checkpoint.shape(bias) != shape[:1]:
        raise CheckpointError(f"{checkpoint.folder}: tensor {bias} must be {shape[:1]}, got {checkpoint.shape(bias)}")
    biases = None if bias is None else [_finite(checkpoint, bias)]
    return Dense(Product(engine.pack([_finite(checkpoint, weight)], biases)), None)


def _finite(checkpoint: Checkpoint, name: str) -> np.ndarray:
    values = checkpoint.read(name)
    checkpoint.require_finite(name, values)
    return values


def _load_modules(checkpoint: Checkpoint, hidden_size: int, engine: OpsEngine) -> tuple[Dense, ...]:
    if not checkpoint.dense or checkpoint.pooling is not None:
        kinds = ", ".join(module.kind for module in checkpoint.modules)
        raise CheckpointError(
            f"{checkpoint.folder} is no multi-vector model: modules.json must list a Transformer, then Dense modules "
            f"without a Pooling, got {kinds}; one vector a text is longspan.Encoder's"
        )
    _check_kinds(checkpoint)
    width = hidden_size
    for module in checkpoint.dense:
        _check_module(module, width)
        width = module.config.get_int("out_features")
    return tuple(Dense.load(module, engine) for module in checkpoint.dense)


def _check_kinds(checkpoint: Checkpoint) -> None:
    """CheckpointError for modules that would change a token's vector and are not run."""
    kinds = [module.kind for module in checkpoint.modules[1:] if module.kind != "Dropout"]
    behind = kinds[len(checkpoint.dense) :]
    has_length = any(module.kind == "Normalize" and module.works_on == TOKENS for module in checkpoint.modules)
    if not {*behind} <= {"MultiVectorMask", "Normalize"} or ("MultiVectorMask" in behind and not has_length):
        raise CheckpointError(
            f"{checkpoint.folder}: behind the Transformer of a multi-vector model modules.json may list Dense modules, "
            f"then a MultiVectorMask and, as vectors have unit length here, a Normalize of them, got {', '.join(kinds)}"
        )


def _check_module(module: ModuleEntry, width: int) -> None:
    config = module.config
    if config.get_int("in_features") != width:
        raise CheckpointError(
            f"{config.source}: 'in_features' must be {width}, the width of what comes in, "
            f"got {config.get_int('in_features')}"
        )

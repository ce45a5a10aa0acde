"""A checkpoint's tensors as the encoder wants them: every one accounted for, checked, and packed once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from longspan.checkpoint.checkpoint import Checkpoint
from longspan.errors import CheckpointError, warn_caller
from longspan.models.adapters import add_to_product, check_adapter, part_shapes
from longspan.models.engines.engine import OpsEngine
from longspan.models.parts import EncoderWeights, Product
from longspan.models.peft import Adapter, read_peft
from longspan.models.spec import LinearMap, ModelSpec, PeftSource, WeightMap
from longspan.models.weight_reader import WeightReader


def load_weights(
    checkpoint: Checkpoint, spec: ModelSpec, names: WeightMap, engine: OpsEngine, *, beside: Collection[str] = ()
) -> EncoderWeights:
    """Read every tensor that `names` lists, products packed for `engine`; adapters in files of their own come in with
    `add_adapters`. Tensors that are plainly not the encoder's are left out, with one warning that names them.

    Args:
        beside: tensors that the caller reads itself, such as a reranker's head.
    Raises: CheckpointError, naming the tensor, if one is missing, looks like the encoder's and is not listed, has
        another shape than `spec` says, or holds NaN or infinity.
    """
    _account_for_all(checkpoint, names, beside)
    return WeightReader(checkpoint, spec, engine).encoder(names)


def read_adapters(names: WeightMap) -> list[Adapter]:
    """The checkpoint's adapters in files of their own, one a task, in order.

    Raises: CheckpointError, a folder or a tensor is missing, damaged, or holds what is not supported.
    """
    return [_read_source(source, names.peft) for source in names.peft]


def add_adapters(
    weights: EncoderWeights, spec: ModelSpec, names: WeightMap, adapters: Sequence[Adapter], engine: OpsEngine
) -> EncoderWeights:
    """`weights`, which stay as they are, with more tasks behind those that they have.

    Raises: CheckpointError, an adapter is of another model.
    """
    if not adapters:
        return weights
    for adapter in adapters:
        check_adapter(adapter, spec, names)
    before = len(weights.tasks)

    def adapted(product: Product, parts: LinearMap, field: str) -> Product:
        """With the part that the adapters have here."""
        rows, _ = part_shapes(spec, field, len(parts.weights))
        return add_to_product(product, parts, rows, before, adapters, engine)

    layers = tuple(
        replace(
            layer,
            qkv=adapted(layer.qkv, parts.qkv, "qkv"),
            attention_out=adapted(layer.attention_out, parts.attention_out, "attention_out"),
            up=None if layer.up is None or parts.up is None else adapted(layer.up, parts.up, "up"),
            down=None if layer.down is None or parts.down is None else adapted(layer.down, parts.down, "down"),
        )
        for layer, parts in zip(weights.layers, names.layers, strict=True)
    )
    return replace(weights, layers=layers, tasks=(*weights.tasks, *(adapter.name for adapter in adapters)))


def _read_source(source: PeftSource, sources: Sequence[PeftSource]) -> Adapter:
    shared = [other.task for other in sources if source.shares_file and other.folder == source.folder]
    try:
        return read_peft(source.folder, source.task, tasks_in_file=shared)
    except FileNotFoundError:
        raise CheckpointError(f"{source.folder} is missing: it holds the adapter of the task {source.task!r}") from None


def _account_for_all(checkpoint: Checkpoint, names: WeightMap, beside: Collection[str]) -> None:
    present, wanted = set(checkpoint.tensor_names), set(names.names)
    if missing := sorted(wanted - present):
        raise CheckpointError(f"{checkpoint.folder}: {_listed(missing)} missing from the weights")
    unlisted = sorted(
        name
        for name in present - wanted - set(beside)
        if not any(fnmatchcase(name, pattern) for pattern in names.unused)
    )
    towers = [set(tower.names) for tower in (names.tower, names.audio) if tower is not None]
    encoders = [_EncoderNames(own) for own in (wanted.difference(*towers), *towers) if own]
    misplaced = [
        name for name in unlisted if checkpoint.is_float(name) and any(encoder.claim(name) for encoder in encoders)
    ]
    if misplaced:
        raise CheckpointError(f"{checkpoint.folder}: {_listed(misplaced)} not part of this model as its config says")
    if unlisted:
        warn_caller(f"{checkpoint.folder}: {_listed(unlisted)} not needed here and left out", UserWarning)


class _EncoderNames:
    """Which names look like an encoder's, judged by those of its tensors."""

    def __init__(self, wanted: Collection[str]) -> None:
        first, last = min(wanted), max(wanted)
        length = next((place for place, pair in enumerate(zip(first, last)) if pair[0] != pair[1]), len(first))
        self._prefix = first[: first.rfind(".", 0, length) + 1]
        own = {name.removeprefix(self._prefix) for name in wanted}
        self._rooms = {name.partition(".")[0] for name in own}
        self._in_layers = {name for name in own if any(part.isdigit() for part in name.split("."))}

    def claim(self, name: str) -> bool:
        """Whether it lies in a room of the encoder's, such as `encoder.`, or is a layer's tensor behind a prefix."""
        own = name.removeprefix(self._prefix)
        if name.startswith(self._prefix) and own.partition(".")[0] in self._rooms:
            return True
        parts = name.split(".")
        return any(".".join(parts[place:]) in self._in_layers for place in range(1, len(parts)))


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    if len(names) == 1:
        return f"tensor {shown} is"
    return f"tensors {shown} are" if len(names) <= 3 else f"tensors {shown} and {len(names) - 3} more are"

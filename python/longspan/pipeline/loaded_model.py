"""`LoadedModel`: what every public class that runs a checkpoint has of it, and the one place that opens one."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict

from longspan.checkpoint import hub
from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.fingerprint import Fingerprint
from longspan.models import detect_family
from longspan.models.encoder import TextEncoder
from longspan.models.engines.choice import engine_for
from longspan.models.engines.engine import OpsEngine
from longspan.models.peft import Adapter, read_peft
from longspan.models.spec import ModelSpec, WeightMap
from longspan.models.weights import add_adapters, load_weights
from longspan.text.tasks import check_new_task
from longspan.vectors.origin import Origin

if TYPE_CHECKING:
    from typing_extensions import Unpack


class LoadOptions(TypedDict, total=False):
    """How a checkpoint is found and where it computes: the arguments that the public classes share; `Encoder` says what
    they mean."""

    revision: str | None
    token: str | bool | None
    cache_dir: str | os.PathLike[str] | None
    local_files_only: bool
    num_threads: int | None
    cuda_graphs: bool


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A checkpoint whose weights are not read yet."""

    name: str  # as the caller gave it
    device: str
    num_threads: int | None
    checkpoint: Checkpoint
    spec: ModelSpec
    names: WeightMap
    engine: OpsEngine


def open_model(
    caller: str,
    name_or_path: str | os.PathLike[str],
    device: str | None,
    dtype: str,
    **options: Unpack[LoadOptions],
) -> OpenedModel:
    """Find the checkpoint, tell its family, and choose the engine; `caller` begins the messages.

    Raises: FileNotFoundError, no such folder or model; CheckpointError, its files are damaged or not supported;
        ValueError, there is no such engine.
    """
    if unknown := sorted(options.keys() - LoadOptions.__annotations__.keys()):
        raise TypeError(f"{caller}: got an unexpected argument {unknown[0]!r}")
    num_threads = options.get("num_threads")
    engine = engine_for(caller, device, dtype, num_threads, options.get("cuda_graphs", True))
    folder = hub.resolve(
        name_or_path,
        revision=options.get("revision"),
        token=options.get("token"),
        cache_dir=options.get("cache_dir"),
        local_files_only=options.get("local_files_only", False),
    )
    checkpoint = Checkpoint.open(folder)
    spec, names = detect_family(checkpoint).describe(checkpoint)
    place = "cpu" if device is None else str(device)
    return OpenedModel(os.fspath(name_or_path), place, num_threads, checkpoint, spec, names, engine)


class LoadedModel:
    """A checkpoint and its encoder. A subclass adds what turns inputs into rows, and hidden states into results.

    Attributes:
        name: what the caller named.
        folder: where the files lie.
        spec: what the model computes.
        device, dtype, num_threads: where and how it computes.
        prompts: name -> text that goes before an input.
    """

    def __init__(
        self,
        opened: OpenedModel,
        names: WeightMap,
        adapters: Sequence[Adapter],
        settings: Mapping[str, object],
        *,
        beside: Collection[str] = (),
    ) -> None:
        """Read the weights by `names`, the family's or what a subclass made of them, and close the checkpoint's files.
        `settings` are what shapes a vector beside the files and the prompts, `beside` the tensors of a head that the
        subclass has read itself.

        Raises: CheckpointError, a tensor is missing, misshapen, without a place in the model, or not finite.
        """
        self.name: Final = opened.name
        self.folder: Final[Path] = opened.checkpoint.folder
        self.spec: Final[ModelSpec] = opened.spec
        self.device: Final = opened.device
        self.dtype: Final = opened.engine.dtype
        self.num_threads: Final = opened.num_threads
        self.prompts: Final = dict(opened.checkpoint.prompts or opened.spec.default_prompts)
        self._weight_map: Final = names
        self._loading_adapter: Final = threading.Lock()
        weights = load_weights(opened.checkpoint, self.spec, names, opened.engine, beside=beside)
        weights = add_adapters(weights, self.spec, names, adapters, opened.engine)
        self._encoder: Final = TextEncoder(self.spec, weights, opened.engine)
        self._fingerprint: Final = Fingerprint(
            opened.checkpoint,
            [own for own in opened.names.unused if not any(fnmatchcase(name, own) for name in beside)],
            {"prompts": self.prompts, **settings},
            [(source.task, source.folder) for source in opened.names.peft],
        )
        opened.checkpoint.close()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The adapters that are loaded, by name."""
        return self._encoder.weights.tasks

    def load_adapter(self, name: str, path: str | os.PathLike[str]) -> None:
        """Load one more adapter, as the PEFT library saves them; then `task=name` runs it, alone or beside others.

        Args:
            name: a new name for `tasks`.
            path: the folder with adapter_config.json and adapter_model.safetensors: plain LoRA of linear layers, of
                this model's, with or without the wrappers that it was trained in.
        Raises: ValueError, the name is taken; FileNotFoundError, no such folder; CheckpointError, the adapter is
            damaged, not supported or of another model. Nothing has changed then.
        """
        with self._loading_adapter:
            check_new_task(name, self.tasks)
            adapter = read_peft(Path(path).expanduser(), name)
            self._add_adapter(adapter)
            self._fingerprint.add_adapter(name, adapter.folder)

    @property
    def fingerprint(self) -> str:
        """A hash of all that shapes a vector: weights, adapters, tokenizer, prompts, pooling, head; 32 hexadecimal
        digits. Equal for two copies of a model, whatever their names. The first call reads the weights' files.

        Raises: CheckpointError, a file was changed after the model was loaded.
        """
        return self._fingerprint.value

    @property
    def origin(self) -> Origin:
        """Where this encoder's vectors come from, for the header of what keeps them: `fingerprint` and `dtype`."""
        return Origin(self.fingerprint, self.dtype)

    def _add_adapter(self, adapter: Adapter) -> None:
        """All or nothing."""
        self._encoder.weights = add_adapters(
            self._encoder.weights, self.spec, self._weight_map, [adapter], self._encoder.engine
        )

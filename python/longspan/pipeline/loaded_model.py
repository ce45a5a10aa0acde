"""`LoadedModel`: what every public class that runs a checkpoint has of it, and the one place that opens one."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict

import numpy as np

from longspan.arguments import names_arguments, nearest
from longspan.checkpoint import hub
from longspan.checkpoint.checkpoint import Checkpoint
from longspan.checkpoint.fingerprint import Fingerprint
from longspan.errors import warn_caller
from longspan.fork_locks import ForkLock
from longspan.images.decode import ImageInput
from longspan.models import detect_family
from longspan.models.encoder import TextEncoder
from longspan.models.engines.choice import engine_for
from longspan.models.engines.engine import OpsEngine
from longspan.models.peft import Adapter, read_peft
from longspan.models.spec import AudioSpec, ModelSpec, VisionSpec, WeightMap
from longspan.models.tower_weights import load_audio, load_tower
from longspan.models.weights import add_adapters, load_weights
from longspan.pipeline.audio import Audio
from longspan.pipeline.inputs import MODALITIES, Modality
from longspan.pipeline.modalities import chosen_modalities, media_settings, modalities_of, with_modalities
from longspan.pipeline.vision import Vision
from longspan.text.prompts import ModelPrompts
from longspan.text.tasks import check_new_task
from longspan.vectors.origin import Origin

if TYPE_CHECKING:
    from typing_extensions import Unpack


SETTABLE: Final = ("similarity_fn_name",)  # of a model that is open
LENGTHS: Final = ("max_length", "max_seq_length")  # those too, where they are properties


class LoadOptions(TypedDict, total=False):
    """How a checkpoint is found and where it computes: the arguments that the public classes share; `Encoder` says what
    they mean."""

    revision: str | None
    token: str | bool | None
    cache_dir: str | os.PathLike[str] | None
    local_files_only: bool
    num_threads: int | None
    cuda_graphs: bool
    trust_remote_code: bool  # for code written for other libraries; nothing is ever run


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A checkpoint whose weights are not read yet."""

    name: str  # as the caller gave it
    device: str
    num_threads: int | None
    checkpoint: Checkpoint
    spec: ModelSpec
    names: WeightMap
    modalities: tuple[Modality, ...]  # what is read
    unused: tuple[str, ...]  # tensors on which no vector depends, by the family
    media_settings: Mapping[str, object]  # what of media shapes a vector, also where they are left out
    engine: OpsEngine
    again: Mapping[str, object]  # arguments by which the same checkpoint, in its folder, is opened again


def open_model(
    caller: str,
    name_or_path: str | os.PathLike[str],
    device: str | None,
    dtype: str,
    *,
    modalities: Sequence[str] | None = None,
    reads_sequences: bool = False,
    **options: Unpack[LoadOptions],
) -> OpenedModel:
    """Find the checkpoint, tell its family, and choose the engine; `caller` begins the messages.

    Args: as the public classes.
        reads_sequences: whether the caller can put media into one sequence with texts; else such models read text.

    Raises: FileNotFoundError, no such folder or model; CheckpointError, its files are damaged or not supported;
        ValueError, there is no such engine.
    """
    if options.get("trust_remote_code"):
        warn_caller("trust_remote_code=True is not needed: longspan runs no code of a checkpoint")
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
    unused, of_media = names.unused, media_settings(spec)
    known = modalities_of(spec) if reads_sequences or spec.sequence is None else MODALITIES[:1]
    chosen = chosen_modalities(caller, modalities, known)
    spec, names = with_modalities(spec, names, chosen)
    place = "cpu" if device is None else str(device)
    again: dict[str, object] = {"device": device, "dtype": dtype, "num_threads": num_threads}
    again |= {} if options.get("cuda_graphs", True) else {"cuda_graphs": False}
    again |= {} if modalities is None else {"modalities": modalities}
    return OpenedModel(
        os.fspath(name_or_path),
        place,
        num_threads,
        checkpoint,
        spec,
        names,
        chosen,
        unused,
        of_media,
        engine,
        again,
    )


def _open_vision(opened: OpenedModel, spec: VisionSpec) -> Vision:
    weights = load_tower(opened.checkpoint, opened.spec, opened.names, opened.engine)
    return Vision(spec, weights, opened.engine, opened.num_threads)


def _open_audio(opened: OpenedModel, spec: AudioSpec) -> Audio:
    weights = load_audio(opened.checkpoint, opened.spec, opened.names, opened.engine)
    return Audio(spec, weights, opened.engine, opened.num_threads)


@names_arguments
class LoadedModel:
    """A checkpoint and its encoder. A subclass adds what turns inputs into rows, and hidden states into results.

    Attributes:
        name: what the caller named.
        folder: where the files lie.
        spec: what the model computes.
        device, dtype, num_threads: where and how it computes.
        prompts: name -> text that goes before an input.
        modalities: what it reads: "text", and of "image", "audio" and "video" those that it can and that were not left
            out.
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
        self._set_later: Final[dict[str, object]] = {}  # by the user, of SETTABLE and LENGTHS
        self.name: Final = opened.name
        self.folder: Final[Path] = opened.checkpoint.folder
        self.spec: Final[ModelSpec] = opened.spec
        self.device: Final = opened.device
        self.dtype: Final = opened.engine.dtype
        self.num_threads: Final = opened.num_threads
        self.prompts: Final = ModelPrompts(opened.checkpoint.prompts or opened.spec.default_prompts)
        self._weight_map: Final = names
        self._again: Final[dict[str, object]] = dict(opened.again)
        self._loaded_adapters: Final[list[tuple[str, Path]]] = []
        self._loading_adapter: Final = ForkLock()
        weights = load_weights(opened.checkpoint, self.spec, names, opened.engine, beside=beside)
        weights = add_adapters(weights, self.spec, names, adapters, opened.engine)
        self._encoder: Final = TextEncoder(self.spec, weights, opened.engine)
        self.modalities: Final = opened.modalities
        self._vision: Final = None if self.spec.vision is None else _open_vision(opened, self.spec.vision)
        self._audio: Final = None if self.spec.audio is None else _open_audio(opened, self.spec.audio)
        self._fingerprint: Final = Fingerprint(
            opened.checkpoint,
            [own for own in opened.unused if not any(fnmatchcase(name, own) for name in beside)],
            {"prompts": self.prompts, **settings, **opened.media_settings},
            [(source.task, source.folder) for source in opened.names.peft],
        )
        self._encoder.watches = opened.checkpoint.tensors.watches()
        opened.checkpoint.close()

    def __setattr__(self, name: str, value: object) -> None:
        """Of what a model was opened with nothing changes under its vectors and its fingerprint; and a name that is
        almost that of something that may be set is no new attribute."""
        kind = type(self)
        if not name.startswith("_") and not isinstance(getattr(kind, name, None), property):
            if name in vars(self) and name not in SETTABLE:
                raise AttributeError(f"{kind.__name__}.{name} cannot be set: it belongs to the model as it was opened")
            may_be_set = [*SETTABLE, *(own for own in LENGTHS if hasattr(kind, own))]
            near = None if name in vars(self) or hasattr(kind, name) else nearest(name, may_be_set, cutoff=0.85)
            if near is not None and near != name:
                raise AttributeError(f"{kind.__name__} has no attribute {name!r} to set; did you mean {near!r}?")
        is_later = name in LENGTHS if isinstance(getattr(kind, name, None), property) else name in vars(self)
        super().__setattr__(name, value)
        if is_later and not name.startswith("_"):
            self._set_later[name] = value

    @property
    def batch_tokens(self) -> int:
        """Tokens of a batch, where a call names no number: what the engine runs well with."""
        return self._encoder.engine.batch_tokens

    def fit_image(self, image: ImageInput, name: str = "image") -> tuple[np.ndarray, int]:
        """Decode and shrink an image ahead of a call, in a thread of the caller's: the result has the vectors of what
        it was made from, to the bit.

        Args:
            image: as `longspan.images.decode.read_image`: bytes and paths are files.
            name: what the caller calls it, for messages.
        Returns: (height, width, 3) uint8, and how many tokens it is to the model.
        Raises: ValueError, the model reads no images, or this one is damaged or too large; ImportError, Pillow is
            needed and not installed.
        """
        if self._vision is None:
            raise ValueError(f"fit_image: {self.name} reads {' and '.join(self.modalities)} alone")
        return self._vision.fit(image, name)

    @property
    def opened_with(self) -> dict[str, object]:
        """The arguments by which the same checkpoint, in `folder`, is opened in the same way."""
        return dict(self._again)

    def __reduce__(self) -> tuple[object, ...]:
        """A pickle names the folder and what the model was made with, no weights and no token: it is opened again where
        it is unpickled, which may be another process; so is a deep copy. Adapters that were loaded come along, by
        their folders, and what was set since, such as `max_length`."""
        made_with = (type(self), self.folder.absolute(), self._again, tuple(self._loaded_adapters))
        return _open_again, made_with, dict(self._set_later) or None

    def __setstate__(self, state: Mapping[str, object]) -> None:
        """What was set after the other was opened."""
        for name, value in state.items():
            setattr(self, name, value)

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
            self._loaded_adapters.append((name, adapter.folder.absolute()))

    @property
    def revision(self) -> str | None:
        """The commit, of a model that came from the hub; None of a folder."""
        return self.folder.name if self.folder.parent.name == "snapshots" else None

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

    def _checked_ids(self, place: int, ids: Sequence[int] | np.ndarray) -> np.ndarray:
        array = np.asarray(ids)
        if array.ndim != 1 or not 1 <= len(array) <= self.spec.max_tokens or array.dtype.kind not in "iu":
            raise ValueError(
                f"encode_ids: ids[{place}] must be from 1 to {self.spec.max_tokens} integers, got shape {array.shape} "
                f"of {array.dtype}"
            )
        if array.min() < 0 or array.max() >= self.spec.vocab_size:
            wrong = array[(array < 0) | (array >= self.spec.vocab_size)][0]
            raise ValueError(f"encode_ids: ids[{place}] has {wrong}; ids go from 0 to {self.spec.vocab_size - 1}")
        return array.astype(np.int32)

    def _add_adapter(self, adapter: Adapter) -> None:
        """All or nothing."""
        self._encoder.weights = add_adapters(
            self._encoder.weights, self.spec, self._weight_map, [adapter], self._encoder.engine
        )


def _open_again(
    kind: type[LoadedModel], folder: Path, options: dict[str, object], adapters: tuple[tuple[str, Path], ...]
) -> LoadedModel:
    model = kind(folder, **options)  # type: ignore[arg-type]
    for name, path in adapters:
        model.load_adapter(name, path)
    return model

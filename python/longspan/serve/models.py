"""The models that are served: what they are called, when they are loaded, what computes them."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, Literal

from longspan.serve.errors import RequestError
from longspan.serve.fields import shown
from longspan.serve.settings import ModelSettings

if TYPE_CHECKING:
    from longspan.encoder import Encoder
    from longspan.multi_vector import MultiVectorEncoder
    from longspan.pipeline.loaded_model import LoadOptions
    from longspan.reranker import Reranker
    from longspan.sparse_encoder import SparseEncoder

    AnyModel = Encoder | MultiVectorEncoder | Reranker | SparseEncoder

Kind = Literal["embedding", "multi-vector", "reranker", "sparse"]
KIND_NAMES: Final[Mapping[Kind, str]] = {
    "embedding": "embeddings",
    "multi-vector": "token vectors",
    "reranker": "scores of pairs",
    "sparse": "sparse vectors",
}
KIND_ROUTES: Final[Mapping[Kind, str]] = {
    "embedding": "/v1/embeddings",
    "multi-vector": "/v1/multi-vector",
    "reranker": "/v1/rerank",
    "sparse": "/embed_sparse",
}
# The kinds that routes ask for.
EMBEDS: Final[tuple[Kind, ...]] = ("embedding",)
EMBEDS_TOKENS: Final[tuple[Kind, ...]] = ("multi-vector",)
EMBEDS_SPARSELY: Final[tuple[Kind, ...]] = ("sparse",)
RANKS: Final[tuple[Kind, ...]] = ("multi-vector", "reranker")
SPARSE_MODULES: Final = ("SpladePooling", "SparseStaticEmbedding")
PREFIXES: Final = ("openai/", "jina_ai/", "huggingface/", "hosted_vllm/", "ollama/", "cohere/")
OWNER: Final = "longspan"


class ServedModel:
    """One model: loaded, or ready to be.

    Args:
        source: what to load, or an encoder that is there already (which is then never let go).
    """

    def __init__(self, source: ModelSettings | AnyModel) -> None:
        self._settings = source if isinstance(source, ModelSettings) else None
        self._encoder = None if isinstance(source, ModelSettings) else source
        self._lock = threading.Lock()  # held for moments
        self._loading = threading.Lock()
        self._users = 0
        self._last_used = time.monotonic()
        self.name = source.name
        served = None if self._settings is None else self._settings.served_name
        self.short_name = served or PurePath(self.name).name or self.name
        self.is_warm = False
        self._last_kind: Kind | None = None
        self.recent_rate = 0.0  # tokens/s of its last request for texts; 0 before it

    @property
    def is_loaded(self) -> bool:
        """Whether it can compute now."""
        return self._encoder is not None

    @property
    def encoder(self) -> AnyModel:
        """The loaded encoder."""
        encoder = self._encoder
        assert encoder is not None, "the model is in use, so it is loaded"
        return encoder

    @property
    def text_encoder(self) -> Encoder:
        """The loaded encoder, of a model of one vector a text."""
        from longspan.encoder import Encoder

        encoder = self.encoder
        assert isinstance(encoder, Encoder), "its kind was checked"
        return encoder

    @property
    def token_encoder(self) -> MultiVectorEncoder:
        """The loaded encoder, of a late-interaction model."""
        from longspan.multi_vector import MultiVectorEncoder

        encoder = self.encoder
        assert isinstance(encoder, MultiVectorEncoder), "its kind was checked"
        return encoder

    @property
    def reranker(self) -> Reranker:
        """The loaded cross-encoder."""
        from longspan.reranker import Reranker

        encoder = self.encoder
        assert isinstance(encoder, Reranker), "its kind was checked"
        return encoder

    @property
    def sparse_encoder(self) -> SparseEncoder:
        """The loaded encoder, of a model of sparse vectors."""
        from longspan.sparse_encoder import SparseEncoder

        encoder = self.encoder
        assert isinstance(encoder, SparseEncoder), "its kind was checked"
        return encoder

    @property
    def kind(self) -> Kind:
        """What it makes; known when it is loaded."""
        names: Mapping[str, Kind] = {
            "MultiVectorEncoder": "multi-vector",
            "Reranker": "reranker",
            "SparseEncoder": "sparse",
        }
        return next(
            (names[each.__name__] for each in type(self.encoder).__mro__ if each.__name__ in names), "embedding"
        )

    @property
    def known_kind(self) -> Kind | None:
        """The same where it is not loaded now; None where it never was."""
        return self.kind if self.is_loaded else self._last_kind

    @property
    def created(self) -> int:
        """When its config was written, as Unix time; the same for every start. 0 where it is not loaded."""
        if self._encoder is None:
            return 0
        try:
            return int(os.stat(self._encoder.folder / "config.json").st_mtime)
        except OSError:
            return 0

    def load(self) -> None:
        """Load it, if it is not. Raises: what `Encoder` raises."""
        with self._loading:
            encoder = self._encoder
            if encoder is None:
                assert self._settings is not None
                encoder = open_model(self._settings)
            encoder.fingerprint  # noqa: B018  (reads the files once, now)
            self._encoder = encoder
            self._last_kind = self.kind

    def acquire(self) -> None:
        """Begin to use it: until `release` it is not let go."""
        with self._lock:
            self._users += 1

    def release(self) -> None:
        """See `acquire`."""
        with self._lock:
            self._users -= 1
            self._last_used = time.monotonic()

    def unload_if_idle(self, seconds: float) -> bool:
        """Let it go, if nobody has used it for so long. Returns: whether it was."""
        with self._lock:
            is_idle = not self._users and time.monotonic() - self._last_used > seconds
            if not is_idle or self._encoder is None or self._settings is None:
                return False
            self._encoder = None
            self.is_warm = False
        gc.collect()
        return True


def open_model(settings: ModelSettings) -> AnyModel:
    """Load a model as what its files say it is."""
    from longspan.checkpoint import hub
    from longspan.checkpoint.checkpoint import Checkpoint
    from longspan.encoder import Encoder
    from longspan.multi_vector import MultiVectorEncoder
    from longspan.pipeline.purpose import purpose_of
    from longspan.reranker import Reranker
    from longspan.reranking.scoring import is_reranker
    from longspan.sparse_encoder import SparseEncoder

    where: LoadOptions = {
        "revision": settings.revision,
        "cache_dir": settings.cache_dir,
        "local_files_only": settings.local_files_only,
        "num_threads": settings.num_threads,
    }
    folder = hub.resolve(
        settings.name,
        revision=settings.revision,
        cache_dir=settings.cache_dir,
        local_files_only=settings.local_files_only,
    )
    with closing(Checkpoint.open(folder)) as checkpoint:
        kind: type[AnyModel] = MultiVectorEncoder if purpose_of(checkpoint) == "late interaction" else Encoder
        if settings.kind == "reranker" or (settings.kind == "auto" and is_reranker(checkpoint)):
            kind = Reranker
        elif settings.kind == "sparse" or any(module.kind in SPARSE_MODULES for module in checkpoint.modules):
            kind = SparseEncoder
    return kind(
        settings.name,
        settings.device,
        settings.dtype,
        **where,
    )


@dataclass(frozen=True, slots=True)
class Found:
    """A model, and the task that its name asks for."""

    model: ServedModel
    role: str | None = None  # a task, as `tasks.meaning` takes it


class Models:
    """Names to models.

    A model answers to its full name, the name's last part, and its aliases; each with the prefixes of client libraries,
    with ":latest", and with ":ROLE", a task that the name fixes.
    """

    def __init__(self, models: Sequence[ServedModel], aliases: Mapping[str, str], *, any_model: bool = False) -> None:
        """Raises: ValueError, there is no model, two share a name, or an alias stands for none."""
        if not models:
            raise ValueError("create_app: models must have at least one")
        self.all = list(models)
        self._any = any_model
        self._names: dict[str, Found] = {}
        for model in models:
            if model.name in self._names:
                raise ValueError(f"two models are called {model.name!r}; give each once")
            self._names[model.name] = Found(model)
        counts = Counter(model.short_name for model in models)
        for model in models:
            if counts[model.short_name] > 1:  # it would stand for none of them
                model.short_name = model.name
            self._names.setdefault(model.short_name, Found(model))
        for alias, target in aliases.items():
            found = self._search(target)
            if found is None:
                raise ValueError(f"the alias {alias!r} stands for {target!r}, which is none of the models")
            self._names[alias] = found

    @property
    def names(self) -> list[str]:
        """Every name, without the prefixes and endings that are taken as well."""
        return list(self._names)

    def aliases_of(self, model: ServedModel) -> list[str]:
        """Its names but the first."""
        return [name for name, found in self._names.items() if found.model is model and name != model.short_name]

    def find(self, name: object, kinds: Sequence[Kind] = ()) -> Found:
        """The model of this name; it may be left out where one model alone is of the kinds that the route asks for,
        as far as is known: clients of one-model servers cannot say it.

        Raises: RequestError, no model is called so, or none is named and several may be meant.
        """
        if name is None or name == "":
            fitting = [model for model in self.all if model.known_kind in (None, *kinds)]
            if len(self.all) == 1 or (kinds and len(fitting) == 1):
                return Found((fitting or self.all)[0])
            raise RequestError("validation", f"model is missing; {self._served()}", field="model", status=400)
        if not isinstance(name, str):
            raise RequestError("validation", f"model must be a string, got {shown(name)}", field="model", value=name)
        found = self._search(name)
        if found is None and self._any:
            return Found(self.all[0])
        if found is None:
            message = f"the model {name[:200]!r} is not served here; {self._served()}"
            raise RequestError("model_not_found", message, field="model", value=name[:200])
        return found

    def _search(self, name: str) -> Found | None:
        for candidate in _spellings(name):
            if candidate in self._names:
                return self._names[candidate]
            base, _, role = candidate.rpartition(":")
            if base in self._names and role:
                return Found(self._names[base].model, role)
        return None

    def _served(self) -> str:
        return f"served are {', '.join(self._names)}"


def _spellings(name: str) -> list[str]:
    """The name as it stands, and without prefixes and ':latest'."""
    found = [name]
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            if name.startswith(prefix):
                name, stripped = name.removeprefix(prefix), True
                found.append(name)
    return [*found, *(each.removesuffix(":latest") for each in found if each.endswith(":latest"))]

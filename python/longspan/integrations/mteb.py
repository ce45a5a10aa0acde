"""longspan under MTEB 2: encoders that `mteb.evaluate` accepts.

    import mteb
    from longspan.integrations.mteb import MtebEncoder
    results = mteb.evaluate(MtebEncoder("jinaai/jina-embeddings-v3"), mteb.get_tasks(["STS12", "SciFact"]))

A task's type decides the adapter, where the model has any, and its queries and documents take the model's own prompts.
A set of texts is handed over whole: `batch_size` in encode_kwargs means nothing here, and no result depends on it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from longspan.checkpoint.hub import HUB_NAME
from longspan.checkpoint.safetensors_folder import SafetensorsFolder
from longspan.encoder import Encoder
from longspan.integrations import missing, opened
from longspan.pipeline.inputs import MODALITIES
from longspan.vectors.quantize import Precision

try:
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder, get_prompt_name
    from mteb.models.model_meta import ScoringFunction
except ImportError as error:
    raise missing("mteb", error) from error

if TYPE_CHECKING:
    from longspan.multi_vector import MultiVectorEncoder

# What mteb's own entry for jina-embeddings-v3 takes, or the newer names of the same: the first that is loaded.
ADAPTERS: Final[Mapping[str, tuple[str, ...]]] = {
    "Clustering": ("separation", "clustering"),
    "Classification": ("classification",),
    "MultilabelClassification": ("classification",),
    "PairClassification": ("classification",),
    "Reranking": ("separation",),
    "STS": ("text-matching",),
    "BitextMining": ("text-matching",),
    "Summarization": ("text-matching",),
}
COMMIT: Final = re.compile("[0-9a-f]{40}")
SAMPLE_BYTES: Final = 1 << 20


class MtebEncoder(AbsEncoder):
    """An Encoder for `mteb.evaluate`.

    Args:
        model: an Encoder, or what it opens.
        revision, device: of the model, where it is opened here; mteb's own loaders are called so.
        tasks: which adapter serves which task, where the default does not: by mteb's name of a task or its type, also
            with "-query" or "-document", such as {"Retrieval-query": "retrieval.query"}.
        prompts: what goes before texts, by the same names, or "query" and "document"; before the model's own.
        meta: the model's description in results; None makes one from its files.
    Raises: TypeError, `model` is something else; what `Encoder` raises.
    """

    def __init__(
        self,
        model: Encoder | str | os.PathLike[str],
        revision: str | None = None,
        *,
        device: str | None = None,
        tasks: Mapping[str, str] | None = None,
        prompts: Mapping[str, str] | None = None,
        meta: ModelMeta | None = None,
    ) -> None:
        self.model = opened(model, Encoder, "MtebEncoder", device=device, revision=revision)
        self.tasks = dict(tasks or {})
        self.prompts = {**self.model.prompts, **(prompts or {})}
        self.mteb_model_meta = meta or describe(self.model, ["dense"])

    def encode(
        self,
        inputs: Iterable[Mapping[str, Sequence[Any]]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        precision: Precision = "float32",
        show_progress_bar: bool | None = None,
        **ignored: object,
    ) -> np.ndarray:
        """(n, dim) vectors of mteb's batches of texts, images, sounds and videos, with the adapter and the prompt of
        the task; an input without a text has the prompt where the encoder was made with `MediaOptions(prompts="all")`.

        Raises: ValueError, no adapter is known for a model that needs one: name it in `tasks`.
        """
        task = self._task(task_metadata, prompt_type)
        prompt_name = get_prompt_name(self.prompts, task_metadata, prompt_type)
        prompt = None if prompt_name is None else self.prompts[prompt_name]
        encode = self.model.encode
        if prompt_type is not None and task in (None, self._role_task(prompt_type.value)):
            encode = self.model.encode_query if prompt_type.value == "query" else self.model.encode_document
        elif prompt is None and task is not None:
            prompt = self.model.prompts.get(task)
        given = [one for batch in inputs for one in _inputs_of(batch)]
        return np.asarray(
            encode(given, task=task, prompt=prompt, precision=precision, show_progress_bar=show_progress_bar)
        )

    def _task(self, metadata: Any, prompt_type: Any) -> str | None:
        """The adapter for a set of texts; None for the model's own choice."""
        named = get_prompt_name(self.tasks, metadata, prompt_type)
        if named is not None:
            return self.tasks[named]
        return next((name for name in ADAPTERS.get(metadata.type, ()) if name in self.model.tasks), None)

    def _role_task(self, role: str) -> str | None:
        own = self.model.spec.tasks
        return own.query if role == "query" else own.document


def _inputs_of(batch: Mapping[str, Sequence[Any]]) -> list[Any]:
    """A batch's texts, images, sounds or videos, or of several of them together dicts of parts in mteb's own order."""
    columns = {name: batch[name] for name in MODALITIES if batch.get(name) is not None}
    if len(columns) < 2:
        return [one for values in columns.values() for one in values]
    rows = zip(*columns.values(), strict=True)
    return [{name: one for name, one in zip(columns, row, strict=True) if one is not None} for row in rows]


def describe(model: Encoder | MultiVectorEncoder, kinds: list[str]) -> ModelMeta:
    """What mteb files results under: the hub's name and commit, or the folder's name and a digest of its weights, so
    that two models in folders of one name are not taken for each other."""
    weights = SafetensorsFolder.open(model.folder)
    floats = [name for name in weights.names if not weights.dtype(name).startswith("I")]  # no tables of positions
    parameters = sum(int(np.prod(weights.shape(name))) for name in floats)
    weights.close()
    files = sorted(model.folder.glob("*.safetensors"))
    on_hub = "/" in model.name and HUB_NAME.fullmatch(model.name) and not Path(model.name).is_dir()
    named = {"cosine": ScoringFunction.COSINE, "dot": ScoringFunction.DOT_PRODUCT}
    similarity = ScoringFunction.MAX_SIM if "late-interaction" in kinds else None
    return ModelMeta.create_empty(
        overwrites={
            "name": model.name if on_hub else f"local/{model.folder.resolve().name}",
            "revision": model.folder.name if COMMIT.fullmatch(model.folder.name) else _digest(files),
            "n_parameters": parameters,
            "memory_usage_mb": round(sum(path.stat().st_size for path in files) / 2**20, 1),
            "max_tokens": model.max_length,
            "embed_dim": model.dim,
            "framework": ["safetensors"],
            "similarity_fn_name": similarity or named.get(getattr(model, "similarity_fn_name", "")),
            "use_instructions": any(model.prompts.values()),
            "open_weights": True,
            "model_type": kinds,
            "modalities": list(model.modalities),
        }
    )


def _digest(files: Sequence[Path]) -> str:
    """40 hex digits of the files' sizes, beginnings (names and shapes) and ends (weights)."""
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(f"{path.name} {size}".encode() + file.read(SAMPLE_BYTES))
            file.seek(max(0, size - SAMPLE_BYTES))
            digest.update(file.read())
    return digest.hexdigest()[:40]

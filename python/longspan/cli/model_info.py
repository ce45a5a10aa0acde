"""What a model is and which kernels would run it, for `longspan info MODEL`."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, fields, is_dataclass
from itertools import groupby
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from longspan.cli.console.terminal import count
from longspan.cli.embedding.options import ModelOptions

if TYPE_CHECKING:
    from longspan.checkpoint.checkpoint import Checkpoint
    from longspan.encoder import Encoder
    from longspan.models.spec import ModelSpec
    from longspan.multi_vector import MultiVectorEncoder
    from longspan.pipeline.purpose import Purpose
    from longspan.reranker import Reranker
    from longspan.sparse_encoder import SparseEncoder

_FLOATS = ("F64", "F32", "F16", "BF16")
# Fields of the spec whose effect on this checkpoint has a line of its own, or that are names of tokens.
_TOLD_BEFORE = (
    "family",
    "tasks",
    "default_pooling",
    "default_normalize",
    "default_max_tokens",
    "default_prompts",
    "default_prompt_name",
    "vision",
    "audio",
    "sequence",
    "task_tokens",
)
_LICENCE = re.compile(r"\A---\n(?:.*\n)*?license: *[\"']?([^\s\"']+)")  # in the header of a model card


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What a checkpoint holds and how it runs."""

    model: str
    folder: str
    family: str
    purpose: str  # what the checkpoint is for
    opens_with: str  # the class that runs it
    dim: int | None  # of a vector; None where scores or weights of words are made
    reads: list[str]  # "text", "image"
    max_length: int
    pooling: str
    normalizes: bool
    similarity: str
    prompts: dict[str, str]
    tasks: list[str]
    licence: str | None  # as the model card (README.md) names it
    parameters: int
    tensors: dict[str, int]  # how many of each dtype, as the files spell it
    spec: dict[str, object]
    kernels: str
    fingerprint: str  # a hash of all that shapes a vector


@dataclass(frozen=True, slots=True)
class RerankerInfo:
    """What a reranker's checkpoint holds and how it runs."""

    model: str
    folder: str
    family: str
    purpose: str  # what the checkpoint is for
    opens_with: str  # the class that runs it
    scores: str  # each pair by itself, or the documents of a query together
    labels: int
    activation: str
    max_length: int
    prompts: dict[str, str]
    licence: str | None
    parameters: int
    tensors: dict[str, int]
    spec: dict[str, object]
    kernels: str
    fingerprint: str


def describe_model(model: str, options: ModelOptions) -> ModelInfo | RerankerInfo:
    """What `longspan info MODEL` prints. Raises: FileNotFoundError, CheckpointError, ValueError, as `Encoder` does."""
    from longspan.checkpoint import hub
    from longspan.checkpoint.checkpoint import Checkpoint
    from longspan.pipeline.purpose import purpose_of
    from longspan.reranking.scoring import is_reranker

    folder = hub.resolve(
        model, revision=options.revision, cache_dir=options.cache_dir, local_files_only=options.local_files_only
    )
    checkpoint = Checkpoint.open(folder)
    if is_reranker(checkpoint):
        return _reranker_info(model, checkpoint, options.open_reranker(str(folder)))
    purpose = purpose_of(checkpoint)
    encoder = options.open_for(purpose, str(folder))  # of the folder: what is described below is what was loaded
    return _model_info(model, checkpoint, encoder, purpose)


def _model_info(
    model: str,
    checkpoint: Checkpoint,
    encoder: Encoder | MultiVectorEncoder | Reranker | SparseEncoder,
    purpose: Purpose,
) -> ModelInfo:
    from longspan.pipeline.purpose import PURPOSES

    return ModelInfo(
        model=model,
        folder=str(checkpoint.folder),
        family=encoder.spec.family,
        purpose=f"{purpose}: {PURPOSES[purpose][0]}",
        opens_with=PURPOSES[purpose][1],
        dim=getattr(encoder, "dim", None),
        reads=list(getattr(encoder, "modalities", ("text",))),
        max_length=encoder.max_length,
        pooling=_pooling(encoder),
        normalizes=getattr(encoder, "normalizes", purpose == "late interaction"),
        similarity=getattr(encoder, "similarity_fn_name", "maxsim" if purpose == "late interaction" else "dot"),
        prompts=encoder.prompts,
        tasks=list(encoder.tasks),
        licence=_licence(checkpoint.folder),
        parameters=_parameters(checkpoint),
        tensors=_dtypes(checkpoint),
        spec=_plain_fields(encoder.spec),
        kernels=encoder.explain(),
        fingerprint=encoder.fingerprint,
    )


def _reranker_info(model: str, checkpoint: Checkpoint, reranker: Reranker) -> RerankerInfo:
    from longspan.pipeline.purpose import PURPOSES

    return RerankerInfo(
        model=model,
        folder=str(checkpoint.folder),
        family=reranker.spec.family,
        purpose=f"reranking: {PURPOSES['reranking'][0]}",
        opens_with=PURPOSES["reranking"][1],
        scores="the documents of a query together" if reranker.is_listwise else "each pair by itself",
        labels=reranker.num_labels,
        activation=reranker.default_activation,
        max_length=reranker.max_length,
        prompts=reranker.prompts,
        licence=_licence(checkpoint.folder),
        parameters=_parameters(checkpoint),
        tensors=_dtypes(checkpoint),
        spec=_plain_fields(reranker.spec),
        kernels=reranker.explain(),
        fingerprint=reranker.fingerprint,
    )


def _parameters(checkpoint: Checkpoint) -> int:
    """Floating-point numbers in the files."""
    tensors = checkpoint.tensors
    return sum(prod(tensors.shape(name)) for name in tensors.names if tensors.dtype(name) in _FLOATS)


def _dtypes(checkpoint: Checkpoint) -> dict[str, int]:
    """How many tensors of each dtype."""
    return dict(Counter(map(checkpoint.tensors.dtype, checkpoint.tensors.names)))


def _pooling(encoder: object) -> str:
    """How an encoder pools, in words; "none" for token vectors, scores and weights of words."""
    pooling = getattr(encoder, "pooling", "none")
    return pooling if isinstance(pooling, str) else " + ".join(pooling)


def _plain_fields(spec: ModelSpec) -> dict[str, object]:
    """A spec as JSON has it."""
    return {field.name: _plain(getattr(spec, field.name)) for field in fields(spec)}


def _plain(value: object) -> object:
    """A field of the spec as JSON has it; a record inside says what it is."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            "kind": type(value).__name__,
            **{field.name: _plain(getattr(value, field.name)) for field in fields(value)},
        }
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _licence(folder: Path) -> str | None:
    """What the header of the folder's model card names; None without a card, or where it names none."""
    try:
        with open(folder / "README.md", encoding="utf-8", errors="replace") as card:
            head = card.read(16_384).split("\n---", 1)[0]
    except FileNotFoundError:
        return None
    found = _LICENCE.match(head + "\n")
    return found[1] if found else None


def model_rows(info: ModelInfo) -> list[tuple[str, str]]:
    told = {name: value for name, value in info.spec.items() if name not in _TOLD_BEFORE and _is_told(value)}
    return [
        ("folder", info.folder),
        ("family", info.family),
        ("made for", f"{info.purpose}, with {info.opens_with}"),
        ("reads", ", ".join(info.reads)),
        ("vectors", _vectors(info)),
        ("pooling", info.pooling),
        ("max length", count(info.max_length, "token")),
        *_tower_rows(info.spec),
        ("licence", info.licence or "not stated in the folder"),
        ("parameters", f"{info.parameters:,}"),
        ("tensors", ", ".join(f"{number} {dtype}" for dtype, number in info.tensors.items())),
        ("prompts", ", ".join(f"{name}: {text!r}" for name, text in info.prompts.items()) or "none"),
        ("tasks", ", ".join(info.tasks) or "none"),
        ("kernels", info.kernels),
        ("fingerprint", info.fingerprint),
        *((name.replace("_", " "), _value(value)) for name, value in told.items()),
    ]


def _tower_rows(spec: dict[str, object]) -> list[tuple[str, str]]:
    """What looks and listens beside the text model, a line each."""
    rows = []
    for name in ("vision", "audio"):
        match spec.get(name):
            case {"tower": {"layers": list(layers), "hidden_size": width}}:
                rows.append((f"{name} tower", f"{count(len(layers), 'layer')} of {width} dimensions"))
    return rows


def reranker_rows(info: RerankerInfo) -> list[tuple[str, str]]:
    told = {name: value for name, value in info.spec.items() if name not in _TOLD_BEFORE and _is_told(value)}
    return [
        ("folder", info.folder),
        ("family", info.family),
        ("made for", f"{info.purpose}, with {info.opens_with}"),
        ("reranker", f"scores {info.scores}, {count(info.labels, 'label')}, {info.activation}"),
        ("max length", count(info.max_length, "token")),
        ("licence", info.licence or "not stated in the folder"),
        ("parameters", f"{info.parameters:,}"),
        ("tensors", ", ".join(f"{number} {dtype}" for dtype, number in info.tensors.items())),
        ("prompts", ", ".join(f"{name}: {text!r}" for name, text in info.prompts.items()) or "none"),
        ("kernels", info.kernels),
        ("fingerprint", info.fingerprint),
        *((name.replace("_", " "), _value(value)) for name, value in told.items()),
    ]


def _vectors(info: ModelInfo) -> str:
    if info.dim is None:
        return "none"
    return f"{info.dim} dimensions, {'unit length' if info.normalizes else 'not normalised'}, {info.similarity}"


def _value(value: object) -> str:
    if isinstance(value, dict):
        told = [(name.replace("_", " "), inner) for name, inner in value.items() if name != "kind" and _is_told(inner)]
        parts = [
            f"{name} ({_value(inner)})" if isinstance(inner, dict) else f"{name} {_value(inner)}"
            for name, inner in told
        ]
        return ", ".join(parts) or "plain"
    if isinstance(value, list):
        runs = [(shown, len(list(same))) for shown, same in groupby(map(_value, value))]
        return ("; " if isinstance(value[0], dict) else ", ").join(
            f"{number} x {shown}" if number > 1 else shown for shown, number in runs
        )
    if isinstance(value, float):
        return f"{value:,g}" if value < 1 or value != int(value) else f"{int(value):,}"
    return "yes" if value is True else str(value)


def _is_told(value: object) -> bool:
    """Whether a person needs the line: what a model lacks goes unsaid."""
    return value is not None and value is not False and value != []

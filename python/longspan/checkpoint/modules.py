"""modules.json: the steps that sentence-transformers makes a model of, read and checked."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from longspan.checkpoint.json_object import JsonObject, parse_json, read_bytes
from longspan.errors import CheckpointError

ModuleKind = Literal[
    "Transformer",
    "Pooling",
    "Normalize",
    "Dense",
    "LayerNorm",
    "Dropout",
    "LogitScore",
    "StaticEmbedding",
    "SpladePooling",
    "SparseStaticEmbedding",
    "MultiVectorMask",
]
MODULE_KINDS: Final[Mapping[str, ModuleKind]] = {
    **{kind: kind for kind in get_args(ModuleKind)},
    "MLMTransformer": "Transformer",
    "IDF": "SparseStaticEmbedding",
}
ROUTER: Final = "Router"  # the one module of a model that takes queries and documents on different ways

# Where sentence-transformers keeps the Transformer module's own settings: the first that is there, in its order.
TRANSFORMER_SETTINGS: Final = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# The flags of older Pooling files and the newer names, in the order in which flagged parts are joined.
POOLING_FLAGS: Final = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
MAX_MODULES: Final = 64
TEXT, TOKENS, SCORES = "sentence_embedding", "token_embeddings", "scores"  # what modules pass on, by the same names


@dataclass(frozen=True, slots=True)
class ModuleEntry:
    """One step of modules.json."""

    kind: ModuleKind
    folder: Path  # where its files lie: the checkpoint's folder or one inside it
    config: JsonObject  # its own settings; empty where it has none

    @property
    def works_on(self) -> str:
        """TEXT, unless its settings name another of sentence-transformers' values."""
        return self.config.get_str("module_input_name", TEXT)

    @property
    def makes(self) -> str:
        """What it works on, unless its settings name another."""
        return self.config.get_str("module_output_name", self.works_on)


def makes_scores(modules: Sequence[ModuleEntry]) -> bool:
    """Whether they end in a Dense that makes a cross-encoder's scores of a pooled vector."""
    return bool(modules) and modules[-1].kind == "Dense" and modules[-1].makes == SCORES


def text_steps(modules: Sequence[ModuleEntry]) -> tuple[ModuleEntry, ...]:
    """Those behind the pooling that change a text's vector, in order: Dense, LayerNorm, Normalize."""
    return tuple(
        module
        for module in modules
        if module.kind == "LayerNorm" or (module.kind in ("Dense", "Normalize") and module.works_on == TEXT)
    )


def read_modules(folder: Path) -> tuple[tuple[ModuleEntry, ...], tuple[ModuleEntry, ...]]:
    """The modules, and those for queries where they have their own."""
    path = folder / "modules.json"
    if not os.path.lexists(path):
        return (), ()
    listed = parse_json(read_bytes(path), str(path))
    if isinstance(listed, list) and len(listed) > MAX_MODULES:
        raise CheckpointError(f"{path} lists {len(listed)} modules; a model has {MAX_MODULES} at most")
    if not isinstance(listed, list) or not listed:
        raise CheckpointError(f"{path} must be a JSON list of modules that is not empty")
    entries = [JsonObject(item, f"{path}: module {i}") for i, item in enumerate(listed)]
    if len(entries) == 1 and _class_name(entries[0].get_str("type")) == ROUTER:
        return _read_routes(entries[0].get_path("path", folder))
    modules = tuple(_module(entry.get_str("type"), entry.get_path("path", folder), entry.source) for entry in entries)
    _check_order(modules, path)
    return modules, ()


def _read_routes(folder: Path) -> tuple[tuple[ModuleEntry, ...], tuple[ModuleEntry, ...]]:
    """A Router's modules for documents, which are its default, and for queries."""
    path = folder / "router_config.json"
    config = JsonObject.read(path if os.path.lexists(path) else folder / "config.json")
    types, structure = config.get_object("types"), config.get_object("structure")
    default = config.get_object("parameters", JsonObject({}, config.source)).get_str("default_route", "document")
    if set(structure) != {"query", "document"} or default != "document":
        raise CheckpointError(
            f"{config.source}: a Router must have the routes query and document, the latter its default, got "
            f"{', '.join(structure)} and {default!r}"
        )
    routes: dict[str, tuple[ModuleEntry, ...]] = {}
    for route in structure:
        listed = {str(place): name for place, name in enumerate(structure.get_list(route))}
        places = JsonObject(listed, f"{structure.source}: {route}")
        routes[route] = tuple(
            _module(types.get_str(places.get_str(place)), places.get_path(place, folder), types.source)
            for place in places
        )
    if [module.kind for module in routes["query"]] != ["SparseStaticEmbedding"]:
        kinds = ", ".join(module.kind for module in routes["query"])
        raise CheckpointError(
            f"{config.source}: a Router's queries must go through one SparseStaticEmbedding, got {kinds or 'none'}; an "
            f"encoder of their own is a model of its own: open its folder"
        )
    _check_order(routes["document"], path)
    return routes["document"], routes["query"]


def _check_order(modules: Sequence[ModuleEntry], path: Path) -> None:
    kinds = [module.kind for module in modules]
    whole = [kind for kind in kinds if kind in ("Transformer", "StaticEmbedding")]
    if kinds[:1] != whole or kinds.count("Pooling") > 1:
        raise CheckpointError(
            f"{path} must begin with its one Transformer or StaticEmbedding and have at most one Pooling, got "
            f"{', '.join(kinds) or 'none'}"
        )
    first = kinds.index("Pooling") if "Pooling" in kinds else 1
    before = [kind for kind in kinds[1:first] if kind != "Dropout"]
    if before:
        raise CheckpointError(
            f"{path} must have nothing between its {kinds[0]} and its Pooling, got {', '.join(before)}; layers that "
            f"change tokens before they are pooled are not supported"
        )
    for module in modules:
        if module.kind in ("Dense", "Normalize"):
            may_score = module is modules[-1] and module.works_on == TEXT and "Pooling" in kinds
            wanted = (module.works_on, SCORES) if may_score and module.kind == "Dense" else (module.works_on,)
            if module.works_on not in (TEXT, TOKENS) or module.makes not in wanted:
                raise CheckpointError(
                    f"{module.config.source}: a {module.kind} must change {TEXT!r} or {TOKENS!r}, got one that makes "
                    f"{module.makes!r} of {module.works_on!r}"
                )


def _class_name(type_name: str) -> str:
    """So custom_st.Transformer is a Transformer, without its code."""
    return type_name.rpartition(".")[2]


def _module(type_name: str, own: Path, source: str) -> ModuleEntry:
    """The module of this type, in its own folder; `source` names it in messages."""
    kind = MODULE_KINDS.get(_class_name(type_name))
    if kind is None:
        raise CheckpointError(
            f"{source}: the type {type_name!r} is not supported; those that are: {', '.join(MODULE_KINDS)}"
        )
    if kind in ("Transformer", "StaticEmbedding"):
        return ModuleEntry(kind, own, _checked(transformer_settings(own)))
    # Old Normalize folders are empty, and nothing of a Dropout counts.
    read = JsonObject.read_optional if kind in ("Normalize", "Dropout") else JsonObject.read
    return ModuleEntry(kind, own, read(own / "config.json"))


def _checked(settings: JsonObject) -> JsonObject:
    """CheckpointError where a text's vector is to be what the class's own pooler makes, which no file here says."""
    texts = settings.get_object("modality_config", JsonObject({}, settings.source)).get_object("text", None)
    if texts is not None and (texts.get("method"), texts.get("method_output_name")) == ("forward", "pooler_output"):
        raise CheckpointError(
            f"{settings.source}: 'method_output_name' of texts must not be 'pooler_output'; vectors are pooled from "
            f"the last hidden state, by a Pooling module"
        )
    return settings


def transformer_settings(folder: Path) -> JsonObject:
    """The Transformer module's own settings; empty where it has none."""
    present = [folder / name for name in TRANSFORMER_SETTINGS if os.path.lexists(folder / name)]
    return JsonObject.read_optional(present[0] if present else folder / TRANSFORMER_SETTINGS[0])


def pooling_modes(pooling: JsonObject) -> tuple[str, ...]:
    """From `pooling_mode`, a name or a list of names, or from the older flags; the mean where neither says anything."""
    if pooling.get("pooling_mode") is None:
        return tuple(mode for flag, mode in POOLING_FLAGS.items() if pooling.get_bool(flag, False)) or ("mean",)
    said = pooling["pooling_mode"]
    modes = said if isinstance(said, list) else [said]
    known = tuple(mode for mode in modes if isinstance(mode, str) and mode in POOLING_FLAGS.values())
    if not known or len(known) < len(modes):
        names = ", ".join(POOLING_FLAGS.values())
        raise CheckpointError(f"{pooling.source}: 'pooling_mode' must be of {names}, got {reprlib.repr(said)}")
    return known

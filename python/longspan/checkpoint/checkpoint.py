"""A checkpoint folder as published: its JSON files read and checked, its tensors mapped; nothing of it is run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from longspan.checkpoint.json_object import JsonObject
from longspan.checkpoint.modules import ModuleEntry, pooling_modes, read_modules, text_steps, transformer_settings
from longspan.checkpoint.safetensors_folder import SafetensorsFolder
from longspan.errors import CheckpointError

S = TypeVar("S", bound=np.generic)

UNLIMITED: Final = 1_000_000_000  # tokenizer configs write 1e30 for "no limit"
MAKE_TOKENIZER: Final = (
    'python -c "from transformers import AutoTokenizer as A; '
    "A.from_pretrained('.', use_fast=True).save_pretrained('.')\""
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's files. `open` reads them all, so that what is wrong with one is said before any work is done."""

    folder: Path
    model_folder: (
        Path  # where config.json, weights and tokenizer lie: `folder`, or the Transformer module's folder in it
    )
    config: JsonObject  # config.json
    modules: tuple[ModuleEntry, ...]  # modules.json in its order, the Transformer first; of a Router its documents'
    query_modules: tuple[ModuleEntry, ...]  # of a Router those of queries; else empty
    tensors: SafetensorsFolder
    tokenizer_file: Path  # tokenizer.json
    tokenizer_config: JsonObject  # tokenizer_config.json; empty where there is none
    prompts: dict[str, str]
    default_prompt_name: str | None
    similarity_fn_name: str | None
    activation_fn: str | None  # a cross-encoder's, as a dotted path of torch's
    max_seq_length: int | None  # the files' own limit, special tokens included; None where they set none
    do_lower_case: bool  # lower-case a text before the tokenizer sees it

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Read and check the folder.

        Raises: FileNotFoundError, there is no such folder; CheckpointError, a file is missing, damaged or unsupported.
        """
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"{folder} is not a folder; give the folder that holds the model's config.json")
        modules, query_modules = read_modules(folder)
        model_folder = modules[0].folder if modules else folder
        is_static = bool(modules) and modules[0].kind == "StaticEmbedding"  # which needs no settings
        if not is_static and not os.path.lexists(model_folder / "config.json"):
            raise CheckpointError(f"{folder} is no model: {model_folder / 'config.json'} is missing")
        tokenizer_config = JsonObject.read_optional(model_folder / "tokenizer_config.json")
        settings = modules[0].config if modules else transformer_settings(folder)
        published = JsonObject.read_optional(folder / "config_sentence_transformers.json")
        read = JsonObject.read_optional if is_static else JsonObject.read
        config = read(model_folder / "config.json")
        return cls(
            folder=folder,
            model_folder=model_folder,
            config=config,
            modules=modules,
            query_modules=query_modules,
            tensors=SafetensorsFolder.open(model_folder),
            tokenizer_file=_find_tokenizer(model_folder),
            tokenizer_config=tokenizer_config,
            prompts=_read_prompts(published),
            default_prompt_name=published.get_str("default_prompt_name", None),
            similarity_fn_name=published.get_str("similarity_fn_name", None),
            activation_fn=_read_activation_fn(published, config),
            max_seq_length=_read_max_seq_length(settings, tokenizer_config),
            do_lower_case=settings.get_bool("do_lower_case", False),
        )

    @property
    def pooling(self) -> JsonObject | None:
        """The Pooling module's settings; None where modules.json has no such module."""
        return next((module.config for module in self.modules if module.kind == "Pooling"), None)

    @property
    def pooling_modes(self) -> tuple[str, ...]:
        """The values of POOLING_FLAGS whose vectors are joined, in order; empty where there is no Pooling module."""
        return () if self.pooling is None else pooling_modes(self.pooling)

    @property
    def dense(self) -> tuple[ModuleEntry, ...]:
        """The Dense modules; `SafetensorsFolder.open(entry.folder)` holds the weights of each."""
        return tuple(module for module in self.modules if module.kind == "Dense")

    @property
    def makes_token_vectors(self) -> bool:
        """Whether the modules end in vectors of tokens: a Transformer's, through Dense, with no Pooling."""
        return bool(self.dense) and self.pooling is None and self.modules[0].kind == "Transformer"

    @property
    def head(self) -> tuple[ModuleEntry, ...]:
        """The modules that change a text's vector: Dense, LayerNorm, and Normalize but at the end; where no text's
        vector is made, the Dense modules."""
        if self.makes_token_vectors:
            return self.dense
        steps = text_steps(self.modules)
        while steps and steps[-1].kind == "Normalize":
            steps = steps[:-1]
        return steps

    @property
    def has_normalize(self) -> bool:
        """Whether the last module brings the text's vector to unit length; one for token vectors does not count."""
        steps = text_steps(self.modules)
        return bool(steps) and steps[-1].kind == "Normalize"

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """The names of the model's tensors."""
        return self.tensors.names

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape; CheckpointError if there is none of that name."""
        return self.tensors.shape(name)

    def is_float(self, name: str) -> bool:
        """Whether the tensor holds floating-point numbers, as weights do and tables of 0, 1, 2, … do not."""
        return "F" in self.tensors.dtype(name)

    @overload
    def read(self, name: str) -> NDArray[np.float32]: ...
    @overload
    def read(self, name: str, dtype: type[S]) -> NDArray[S]: ...
    def read(self, name: str, dtype: type[np.generic] = np.float32) -> NDArray[np.generic]:
        """The tensor as `dtype`; see SafetensorsFolder.read for what is a view and what is refused."""
        return self.tensors.read(name, dtype)

    def bits(self, name: str) -> NDArray[np.uint16]:
        """A bfloat16 tensor's bits, as `SafetensorsFolder.bits`."""
        return self.tensors.bits(name)

    def require_finite(self, name: str, array: NDArray[np.generic]) -> None:
        """CheckpointError, naming the tensor and its file, if `array`, as read under `name`, holds NaN or infinity."""
        self.tensors.require_finite(name, array)

    def close(self) -> None:
        """Let go of the weight files; arrays already read stay valid, and views among them keep their file mapped."""
        self.tensors.close()


def _read_prompts(published: JsonObject) -> dict[str, str]:
    """Name -> prompt; null stands for no prompt, as sentence-transformers writes it."""
    prompts = published.get_object("prompts", None)
    return {} if prompts is None else {name: prompts.get_str(name, "") for name in prompts}


def _read_activation_fn(published: JsonObject, config: JsonObject) -> str | None:
    """Where sentence-transformers keeps a cross-encoder's activation, newest place first."""
    nested = config.get_object("sentence_transformers", None)
    places = (
        published.get_str("activation_fn", None),
        None if nested is None else nested.get_str("activation_fn", None),
        config.get_str("sbert_ce_default_activation_function", None),
    )
    return next((place for place in places if place is not None), None)


def _read_max_seq_length(settings: JsonObject, tokenizer_config: JsonObject) -> int | None:
    """From the Transformer module's settings or else, where newer sentence-transformers write it, the tokenizer's;
    before both, what it passes to the tokenizer with each call."""
    by_call = settings.get_object("processing_kwargs", JsonObject({}, settings.source)).get_object("text", None)
    limit = None if by_call is None else by_call.get_int("max_length", None)
    if limit is None:
        limit = settings.get_int("max_seq_length", None)
    if limit is None:
        longest = tokenizer_config.get_float("model_max_length", None)
        limit = None if longest is None or longest > UNLIMITED else int(longest)
    if limit is not None and limit < 1:
        raise CheckpointError(f"{settings.source}: the longest input must be 1 token or more, got {limit}")
    return limit


def _find_tokenizer(folder: Path) -> Path:
    path = folder / "tokenizer.json"
    if not os.path.isfile(path):
        raise CheckpointError(
            f"{path} is missing; make it, in its folder, from vocab.txt or spiece.model with: {MAKE_TOKENIZER}"
        )
    return path

"""What longspan's modules under sentence-transformers share: weights stay in files, nothing is trained."""

from __future__ import annotations

import os
import reprlib
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from longspan.checkpoint.json_object import JsonObject
from longspan.encoder import Encoder
from longspan.errors import TruncationWarning
from longspan.integrations import engine_options, missing
from longspan.integrations.checkpoint_copy import copy_checkpoint
from longspan.multi_vector import MultiVectorEncoder
from longspan.pipeline.options import ON_TRUNCATE, OnTruncate
from longspan.reranker import Reranker
from longspan.sparse_encoder import SparseEncoder
from longspan.text.tokenizer import TextTokenizer

try:
    import torch
    from sentence_transformers.base.modules import InputModule
    from transformers import PreTrainedTokenizerFast
except ImportError as error:
    raise missing("sentence-transformers", error) from error

Features = dict[str, Any]
Settings = Mapping[str, Any]  # what longspan.json holds, or a caller's keyword arguments

SPECIAL: Final = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class CheckpointModule(InputModule):
    """What they share: weights stay in the checkpoint's files, which `save` copies and a pickle names."""

    config_file_name = "longspan.json"
    config_keys: ClassVar[list[str]] = ["on_truncate"]
    forward_kwargs: ClassVar[set[str]] = {"task"}
    save_in_root = False  # what is saved is a whole checkpoint with a modules.json of its own

    def __init__(
        self, encoder: Encoder | MultiVectorEncoder | Reranker | SparseEncoder, on_truncate: OnTruncate
    ) -> None:
        super().__init__()
        if on_truncate not in ON_TRUNCATE:
            raise ValueError(f"on_truncate must be one of {', '.join(ON_TRUNCATE)}, got {on_truncate!r}")
        self.encoder = encoder
        self.on_truncate: OnTruncate = on_truncate
        self._has_warned = False

    def get_embedding_dimension(self) -> int:
        """Values of a vector, or of a pair's logits."""
        return self.encoder.num_labels if isinstance(self.encoder, Reranker) else self.encoder.dim

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The model's tokenizer as transformers', for who calls it, asks for its length or for words; `encode` does not
        go through it."""
        return as_transformers(self.encoder.tokenizer)

    def save(self, output_path: str, *args: object, **kwargs: object) -> None:
        """Copy the checkpoint's files, which are safetensors always, and these settings to `output_path`. Adapters that
        were loaded later are no part of the checkpoint: they are not saved."""
        copy_checkpoint(self.encoder.folder, Path(output_path))
        self.save_config(output_path)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        model_kwargs: Settings | None = None,
        **kwargs: object,
    ) -> CheckpointModule:
        """What `SentenceTransformer(folder, trust_remote_code=True)` calls. `model_kwargs` are options of ours, such as
        num_threads; the library asks for trust in any module that is not its own, and this one runs no code but
        longspan's."""
        place = (subfolder, token, cache_folder, revision, local_files_only)
        folder = cls.load_dir_path(model_name_or_path, *place)
        settings = cls.load_config(folder)
        return cls._open(folder, settings, model_kwargs or {})

    @classmethod
    @abstractmethod
    def _open(cls, folder: str, settings: Settings, options: Settings) -> CheckpointModule:
        """The module of the checkpoint in `folder`, with what `get_config_dict` gave and options of the encoder."""

    def __reduce__(self) -> tuple[Callable[..., CheckpointModule], tuple[object, ...]]:
        folder = os.fspath(self.encoder.folder.absolute())
        return self._open, (folder, self.get_config_dict(), engine_options(self.encoder))

    def refuse_training(self) -> None:
        if self.training and torch.is_grad_enabled():
            raise RuntimeError(
                f"{type(self).__name__} has no gradients; train with sentence-transformers' own backend and load the "
                f"result into longspan, or call model.eval() first"
            )

    def say_cut(self, message: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(f"{message}; this is said once", TruncationWarning, stacklevel=2)

    @contextmanager
    def says_cut_once(self) -> Iterator[None]:
        """The encoder's own warning goes through once, and no more of its kind."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", TruncationWarning)
            yield
        for warning in caught:
            if isinstance(warning.message, TruncationWarning):
                self.say_cut(str(warning.message))
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def as_transformers(tokenizer: TextTokenizer) -> PreTrainedTokenizerFast:
    """The same tokenizer, with the settings of tokenizer_config.json that make no difference to ids."""
    config = JsonObject.read_optional(tokenizer.source.with_name("tokenizer_config.json"))
    special = {name: _content(config[name]) for name in SPECIAL if config.get(name) is not None}
    sides = {name: config[name] for name in ("padding_side", "truncation_side") if config.get(name) is not None}
    names = config.get_list("model_input_names", ["input_ids", "token_type_ids", "attention_mask"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend,
        model_max_length=tokenizer.max_length,
        model_input_names=names,
        **special,
        **sides,
    )


def _content(token: object) -> object:
    """A token's text, which older files keep with its settings."""
    return token.get("content") if isinstance(token, Mapping) else token


def checked_inputs(inputs: Sequence[object]) -> list[str]:
    """`inputs`, if each is a str. The library has sorted them, so a number would name the wrong one."""
    for text in inputs:
        if not isinstance(text, str):
            raise TypeError(f"encode: a text must be a str, got {type(text).__name__}: {reprlib.repr(text)}")
    return list(map(str, inputs))


def padded(rows: Iterable[np.ndarray]) -> torch.Tensor:
    """(rows, longest, ...), filled up with zeros on the right."""
    return torch.nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)


def as_tensor(vectors: object) -> torch.Tensor:
    """`vectors` as a tensor, without a copy where they lie."""
    return torch.as_tensor(vectors)


def rows_of(padded: torch.Tensor, lengths: Sequence[int]) -> list[np.ndarray]:
    """The rows of a padded tensor, each by itself again."""
    return [row[:length] for row, length in zip(padded.cpu().numpy(), lengths, strict=True)]

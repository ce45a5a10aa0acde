"""longspan under sentence-transformers 6: a real SentenceTransformer that computes with longspan.

    from longspan.integrations.sentence_transformers import as_sentence_transformer
    model = as_sentence_transformer("sentence-transformers/all-MiniLM-L6-v2")
    model.encode(texts)

Everything around the model is the library's own: prompts, truncation, precisions, similarity, evaluators, mining. What
differs from its torch backend: nothing is trained, a cut text is warned of, and adapters run by `task=`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from longspan.encoder import Encoder
from longspan.integrations import opened, refuse
from longspan.integrations.sentence_transformers_module import (
    CheckpointModule,
    Features,
    Settings,
    as_tensor,
    checked_inputs,
    padded,
    rows_of,
)
from longspan.pipeline.options import OnTruncate
from longspan.text.task_names import read_tasks, with_named
from longspan.text.tasks import Role, role_prompts, spread, text_prompts

if TYPE_CHECKING:
    from _collections_abc import dict_items

    import sentence_transformers

ROLES: Final[tuple[Role, ...]] = ("query", "document")


def as_sentence_transformer(
    model: Encoder | str | os.PathLike[str], *, on_truncate: OnTruncate = "warn"
) -> sentence_transformers.SentenceTransformer:
    """A SentenceTransformer whose one module is `model`.

    Its prompts are the model's, where "query" and "document" are those of `Encoder.encode_query` and `encode_document`.
    Its own methods of these names also take the model's own adapters; `encode(texts, task=...)` takes any.

    Args:
        model: an Encoder, or what it opens.
        on_truncate: what to do when a text is cut: "warn", once, "error" or "ignore".
    Raises: TypeError, `model` is something else; ValueError, `on_truncate` is; and what `Encoder` raises.
    """
    import sentence_transformers

    encoder = opened(model, Encoder, "as_sentence_transformer")
    tasks = encoder.spec.tasks
    roles: dict[str, str] = {
        role: role_prompts([_own_task(role, encoder)], role, encoder.prompts, tasks)[0] for role in ROLES
    }
    return sentence_transformers.SentenceTransformer(
        modules=[EncoderModule(encoder, on_truncate=on_truncate)],
        prompts={**encoder.prompts, **roles},
        default_prompt_name=encoder.default_prompt_name,
        similarity_fn_name=encoder.similarity_fn_name,
    ).eval()


class EncoderModule(CheckpointModule):
    """An Encoder as the one module of a SentenceTransformer: token ids to finished sentence embeddings."""

    config_keys: ClassVar[list[str]] = ["on_truncate", "max_seq_length"]
    encoder: Encoder

    def __init__(
        self, encoder: Encoder, *, on_truncate: OnTruncate = "warn", max_seq_length: int | None = None
    ) -> None:
        super().__init__(encoder, on_truncate)
        self.max_seq_length = encoder.max_length if max_seq_length is None else max_seq_length

    @property
    def max_seq_length(self) -> int:
        """Tokens to which texts are cut, special ones included."""
        return self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        longest = self.encoder.spec.max_tokens
        if not isinstance(value, int) or not 1 <= value <= longest:
            raise ValueError(f"max_seq_length must be an int from 1 to {longest}, got {value!r}")
        self._max_seq_length = value

    @property
    def modalities(self) -> list[str | tuple[str, ...]]:
        """What may be given to `encode`, by the library's names; tuples are dicts of several parts."""
        single = self.encoder.modalities
        if self.encoder.spec.sequence is None:
            return [*single]
        sizes = range(2, len(single) + 1)
        return [*single, *(pair for size in sizes for pair in combinations(sorted(single), size))]

    def preprocess(
        self, inputs: Sequence[object], prompt: str | None = None, task: str | None = None, **kwargs: object
    ) -> Features:
        """input_ids and attention_mask, (texts, tokens) int64, of each text behind its prompt, padded on the right; or
        images, sounds and videos, which go on as they are.

        Raises: TypeError or ValueError, as `Encoder.encode`.
        """
        refuse("encode", kwargs, "set model.max_seq_length, or call longspan.Encoder itself")
        if any(not isinstance(one, str) for one in inputs) and len(self.encoder.modalities) > 1:
            return {"inputs": list(inputs), "prompt": prompt}  # the encoder reads them itself
        if prompt is None:  # none is asked for, but a task may always take one and the same, or be one
            own, named = read_tasks(_own_task(task, self.encoder), 1, self.encoder)
            before = text_prompts(
                spread(own, 1), self.encoder.prompts, self.encoder.spec.tasks,
                prompt_name=None, prompt=None, default_prompt_name=None,
            )  # fmt: skip
            [prompt] = with_named(before, named)
        rows = self.encoder.tokenize(checked_inputs(inputs), prompt=prompt, max_length=self.max_seq_length)
        for row in rows:
            if row.truncated and self.on_truncate != "ignore":
                cut = f"encode: a text has {row.truncated} tokens more than {self.max_seq_length}"
                if self.on_truncate == "error":
                    raise ValueError(cut)
                self.say_cut(f"{cut}, which were left out")
                break
        features: Features = {
            "input_ids": padded(row.ids.astype(np.int64) for row in rows),
            "attention_mask": padded(np.ones(len(row.ids), np.int64) for row in rows),
        }
        if prompt and not self.encoder.pools_prompt:
            features["pooled"] = padded(self.encoder.pooled_tokens(rows, [prompt] * len(rows)) or [])
        return features

    @classmethod
    def _open(cls, folder: str, settings: Settings, options: Settings) -> EncoderModule:
        return cls(Encoder(folder, **options), **settings)

    def forward(self, features: Features, task: str | None = None) -> Features:
        """`features` with sentence_embedding, (texts, dim), by the model's own pooling, head and normalisation; and
        with token_embeddings, (texts, tokens, hidden), which a run of their own computes if they are asked for."""
        self.refuse_training()
        if "inputs" in features:
            return self._forward_inputs(features, _own_task(task, self.encoder))
        lengths = features["attention_mask"].sum(1).tolist()
        ids = rows_of(features["input_ids"], lengths)
        pooled = rows_of(features["pooled"], lengths) if "pooled" in features else None
        own = _own_task(task, self.encoder)
        vectors = self.encoder.encode_ids(ids, task=own, pooled=pooled)
        outputs = _Outputs({**features, "sentence_embedding": as_tensor(vectors)})
        outputs.tokens = lambda: self.encoder.encode_ids(ids, task=own, output_value="token_embeddings")
        return outputs

    def _forward_inputs(self, features: Features, task: str | None) -> Features:
        """Of texts and media; token_embeddings have no mask by which the library could cut them, and are refused."""
        how = {"task": task, "prompt": features["prompt"], "max_length": self.max_seq_length}
        vectors = self.encoder.encode(features["inputs"], on_truncate=self.on_truncate, **how)
        return {**features, "sentence_embedding": as_tensor(vectors)}


class _Outputs(dict[str, object]):
    """What a forward gives, where token_embeddings are made when they are first looked at."""

    tokens: Callable[[], Iterable[np.ndarray]]

    def __missing__(self, key: str) -> object:
        if key != "token_embeddings":
            raise KeyError(key)
        self[key] = padded(self.tokens())
        return self[key]

    def items(self) -> dict_items[str, object]:
        """All, with the token vectors: `encode(texts, output_value=None)` looks so."""
        self["token_embeddings"]
        return super().items()


def _own_task(task: str | None, encoder: Encoder) -> str | None:
    """The adapter for a task of the library, which knows "query" and "document", or for one of the model's own."""
    if task is not None and not isinstance(task, str):
        got = type(task).__name__
        raise TypeError(f"encode: task must be one name, got {got}; longspan.Encoder takes a list, one a text")
    if task == "query" and task not in encoder.tasks:
        return encoder.spec.tasks.query
    if task == "document" and task not in encoder.tasks:
        return encoder.spec.tasks.document
    return task

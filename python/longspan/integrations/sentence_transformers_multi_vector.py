"""longspan under sentence-transformers 6: a real MultiVectorEncoder of that library that computes with longspan's.

    from longspan.integrations.sentence_transformers_multi_vector import as_multi_vector_encoder
    model = as_multi_vector_encoder("jinaai/jina-colbert-v2")
    scores = model.similarity(model.encode_query(queries), model.encode_document(documents))

Markers, query expansion, projection and skip list are longspan's; scores and evaluators are the library's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from longspan.integrations import opened, refuse
from longspan.integrations.sentence_transformers_module import (
    CheckpointModule,
    Features,
    Settings,
    checked_inputs,
    padded,
)
from longspan.multi_vector import MultiVectorEncoder
from longspan.pipeline.options import OnTruncate

if TYPE_CHECKING:
    import sentence_transformers

# Arguments of MultiVectorEncoder that overrule the checkpoint's files.
RULES: Final = ("query_maxlen", "doc_maxlen", "query_marker", "doc_marker", "attend_to_mask_tokens", "mask_punctuation")
ROLES: Final = ("query", "document")  # the tasks that the library itself knows


def as_multi_vector_encoder(
    model: MultiVectorEncoder | str | os.PathLike[str], *, on_truncate: OnTruncate = "warn"
) -> sentence_transformers.MultiVectorEncoder:
    """A sentence-transformers MultiVectorEncoder whose one module is `model`, a longspan MultiVectorEncoder.

    Markers, query expansion and the skip list are done in that module, as the model's files say.

    Args and Raises: as `as_sentence_transformer`.
    """
    import sentence_transformers

    encoder = opened(model, MultiVectorEncoder, "as_multi_vector_encoder")
    module = MultiVectorModule(encoder, on_truncate=on_truncate)
    return sentence_transformers.MultiVectorEncoder(modules=[module]).eval()


class MultiVectorModule(CheckpointModule):
    """A longspan MultiVectorEncoder as the one module of the library's: texts to the vectors that are kept."""

    config_keys: ClassVar[list[str]] = ["on_truncate", *RULES]
    encoder: MultiVectorEncoder

    def __init__(self, encoder: MultiVectorEncoder, *, on_truncate: OnTruncate = "warn") -> None:
        super().__init__(encoder, on_truncate)

    @property
    def tokenizer(self) -> None:
        """None: ids are made by the model's rules, inside `forward`."""

    def preprocess(
        self, inputs: Sequence[str], prompt: str | None = None, task: str | None = None, **kwargs: object
    ) -> Features:
        """The texts, each behind the prompt.

        Raises: TypeError or ValueError, as `MultiVectorEncoder.encode_documents`.
        """
        refuse("encode", kwargs, "call longspan.MultiVectorEncoder itself")
        texts = checked_inputs(inputs)
        return {"texts": self._prepend_prompt(texts, prompt) if prompt else texts}

    def forward(self, features: Features, task: str | None = None) -> Features:
        """token_embeddings, (texts, tokens, dim), and attention_mask, (texts, tokens) bool, of the vectors that count.

        Args:
            task: "query", or "document", or None for it; or one of the model's own tasks, for documents.
        """
        self.refuse_training()
        encode = self.encoder.encode_queries if task == "query" else self.encoder.encode_documents
        own = None if task in ROLES else task
        with self.says_cut_once():
            found = encode(features["texts"], task=own, on_truncate=self.on_truncate, show_progress_bar=False)
        tokens = padded(found)
        return {
            **features,
            "token_embeddings": tokens,
            "attention_mask": padded(np.ones(len(one), bool) for one in found),
        }

    def get_config_dict(self) -> dict[str, object]:
        """The settings, those that overrule the checkpoint's files included."""
        rules = self.encoder.rules
        return {
            "on_truncate": self.on_truncate,
            "query_maxlen": self.encoder.query_maxlen,
            "doc_maxlen": self.encoder.doc_maxlen,
            "query_marker": rules.query_marker or "",
            "doc_marker": rules.doc_marker or "",
            "attend_to_mask_tokens": rules.attends_to_expansion,
            "mask_punctuation": rules.skip_rule is not None,
        }

    @classmethod
    def _open(cls, folder: str, settings: Settings, options: Settings) -> MultiVectorModule:
        rules = {key: value for key, value in settings.items() if key != "on_truncate"}
        return cls(MultiVectorEncoder(folder, **rules, **options), on_truncate=settings["on_truncate"])

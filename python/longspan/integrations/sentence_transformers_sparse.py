"""longspan under sentence-transformers 6: a real SparseEncoder of that library that computes with longspan's.

    from longspan.integrations.sentence_transformers_sparse import as_sparse_encoder
    model = as_sparse_encoder("naver/splade-cocondenser-ensembledistil")
    scores = model.similarity(model.encode_query(queries), model.encode_document(documents))

`max_active_dims`, `decode`, `sparsity`, scores and evaluators are the library's. Of bge-m3 it has the sparse vectors.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from longspan.checkpoint.torch_file import read_torch_file
from longspan.integrations import opened, refuse
from longspan.integrations.sentence_transformers_module import (
    CheckpointModule,
    Features,
    Settings,
    as_tensor,
    checked_inputs,
)
from longspan.pipeline.options import OnTruncate
from longspan.sparse.token_weights import COLBERT, PARTS, SPARSE
from longspan.sparse_encoder import SparseEncoder

if TYPE_CHECKING:
    import sentence_transformers


def as_sparse_encoder(
    model: SparseEncoder | str | os.PathLike[str], *, on_truncate: OnTruncate = "warn"
) -> sentence_transformers.SparseEncoder:
    """A sentence-transformers SparseEncoder whose one module is `model`, a longspan SparseEncoder.

    `encode_query` and `encode_document` go the model's ways for queries and documents, inference-free queries too.

    Args and Raises: as `as_sentence_transformer`.
    """
    import sentence_transformers

    encoder = opened(model, SparseEncoder, "as_sparse_encoder")
    return sentence_transformers.SparseEncoder(
        modules=[SparseModule(encoder, on_truncate=on_truncate)],
        similarity_fn_name="dot",
        max_active_dims=encoder.max_active_dims,
    ).eval()


@dataclass(frozen=True, slots=True)
class Spelling:
    """Token ids to texts, by the name that transformers has for it."""

    spell: Callable[[int], str | None]

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """An id that no token has is spelled "[id]"."""
        return [self.spell(id) or f"[{id}]" for id in ids]


class SparseModule(CheckpointModule):
    """A longspan SparseEncoder as the one module of the library's: texts to a weight of each vocabulary entry."""

    config_keys: ClassVar[list[str]] = ["on_truncate"]
    encoder: SparseEncoder

    def __init__(self, encoder: SparseEncoder, *, on_truncate: OnTruncate = "warn") -> None:
        super().__init__(encoder, on_truncate)

    @property
    def tokenizer(self) -> Spelling:
        """What the library's `decode` spells tokens with."""
        return Spelling(self.encoder.tokenizer.backend.id_to_token)

    def preprocess(
        self, inputs: Sequence[str], prompt: str | None = None, task: str | None = None, **kwargs: object
    ) -> Features:
        """The texts and their prompt; None for what the model has for the role.

        Raises: TypeError or ValueError, as `SparseEncoder.encode`.
        """
        refuse("encode", kwargs, "call longspan.SparseEncoder itself")
        return {"texts": checked_inputs(inputs), "prompt": prompt}

    def forward(self, features: Features, task: str | None = None) -> Features:
        """`features` with sentence_embedding, (texts, dim), most of it zeros; the library keeps what is not.

        Args:
            task: "query" or "document"; None for the latter; or an adapter of the model's, for documents.
        """
        self.refuse_training()
        encode = self.encoder.encode_query if task == "query" else self.encoder.encode_document
        own = None if task in ("query", "document") else task
        with self.says_cut_once():
            vectors = encode(
                features["texts"],
                task=own,
                prompt=features["prompt"],
                on_truncate=self.on_truncate,
                show_progress_bar=False,
            )
        return {**features, "sentence_embedding": as_tensor(vectors.to_dense())}

    def save(self, output_path: str, *args: object, **kwargs: object) -> None:
        """As `CheckpointModule.save`; bge-m3's heads are saved as safetensors."""
        from safetensors.numpy import save_file

        super().save(output_path)
        for stem in (SPARSE, COLBERT):
            head = self.encoder.folder / f"{stem}.pt"
            if head.exists() and not (self.encoder.folder / f"{stem}.safetensors").exists():
                save_file(read_torch_file(head, PARTS), Path(output_path) / f"{stem}.safetensors")

    @classmethod
    def _open(cls, folder: str, settings: Settings, options: Settings) -> SparseModule:
        return cls(SparseEncoder(folder, **options), **settings)

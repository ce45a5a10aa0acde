"""longspan's late-interaction models under MTEB 2: retrieval and reranking by our MaxSim.

import mteb
from longspan.integrations.mteb_multi_vector import MtebMultiVectorEncoder
results = mteb.evaluate(MtebMultiVectorEncoder("jinaai/jina-colbert-v2"), mteb.get_tasks(["SciFact"]))
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from longspan.integrations import missing, opened
from longspan.integrations.mteb import describe
from longspan.multi_vector import MultiVectorEncoder

try:
    from mteb._create_dataloaders import create_dataloader
    from mteb.models import ModelMeta
    from mteb.types import PromptType
except ImportError as error:
    raise missing("mteb", error) from error

DOCUMENTS_AT_ONCE: Final = 20_000  # whose token vectors are in memory together

Found = dict[str, dict[str, float]]  # query id -> document id -> score


class MtebMultiVectorEncoder:
    """A MultiVectorEncoder for `mteb.evaluate`, for tasks that search or rerank.

    Args:
        model: a MultiVectorEncoder, or what it opens.
        revision, device: of the model, where it is opened here; mteb's own loaders are called so.
        meta: the model's description in results; None makes one from its files.
    Raises: TypeError, `model` is something else; what `MultiVectorEncoder` raises.
    """

    def __init__(
        self,
        model: MultiVectorEncoder | str | os.PathLike[str],
        revision: str | None = None,
        *,
        device: str | None = None,
        meta: ModelMeta | None = None,
    ) -> None:
        self.model = opened(model, MultiVectorEncoder, "MtebMultiVectorEncoder", device=device, revision=revision)
        self.mteb_model_meta = meta or describe(self.model, ["late-interaction"])
        self._corpus: Any = None

    def index(
        self,
        corpus: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        encode_kwargs: Mapping[str, Any],
        num_proc: int | None,
        **ignored: object,
    ) -> None:
        """Take the corpus; it is encoded while it is searched, DOCUMENTS_AT_ONCE."""
        self._corpus = corpus

    def search(
        self,
        queries: Any,
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        top_k: int,
        encode_kwargs: Mapping[str, Any],
        top_ranked: Mapping[str, Sequence[str]] | None = None,
        num_proc: int | None,
        **ignored: object,
    ) -> Found:
        """For each query the scores of its `top_k` best documents, of all or of those that `top_ranked` names."""
        show = encode_kwargs.get("show_progress_bar")
        names = list(queries["id"])
        texts = self._texts(queries, task_metadata, PromptType.query, num_proc)
        asked = list(self.model.encode_queries(texts, show_progress_bar=show, on_truncate="ignore"))
        found: Found = {name: {} for name in names}
        for start in range(0, len(self._corpus), DOCUMENTS_AT_ONCE):
            part = self._corpus.select(range(start, min(start + DOCUMENTS_AT_ONCE, len(self._corpus))))
            texts = self._texts(part, task_metadata, PromptType.document, num_proc)
            vectors = list(self.model.encode_documents(texts, show_progress_bar=show, on_truncate="ignore"))
            ids = list(part["id"])
            if top_ranked is None:
                scores = [dict(zip(ids, row, strict=True)) for row in self.model.score(asked, vectors).tolist()]
            else:
                scores = self._of_named(asked, dict(zip(ids, vectors, strict=True)), [top_ranked[one] for one in names])
            found = {name: _best({**found[name], **more}, top_k) for name, more in zip(names, scores, strict=True)}
        return found

    def _of_named(
        self, asked: Sequence[np.ndarray], vectors: Mapping[str, np.ndarray], named: Sequence[Sequence[str]]
    ) -> list[dict[str, float]]:
        """For each query the scores of the documents named for it, those that are among `vectors`."""
        scores: list[dict[str, float]] = []
        for query, names in zip(asked, named, strict=True):
            here = [name for name in names if name in vectors]
            row = self.model.score([query], [vectors[name] for name in here])[0]
            scores.append(dict(zip(here, row.tolist(), strict=True)))
        return scores

    def _texts(self, rows: Any, metadata: Any, prompt_type: PromptType, num_proc: int | None) -> list[str]:
        """A title before its text, and whatever else mteb does to make one text of a row."""
        loader = create_dataloader(rows, task_metadata=metadata, prompt_type=prompt_type, num_proc=num_proc)
        return [text for batch in loader for text in batch["text"]]


def _best(scores: Mapping[str, float], top_k: int) -> dict[str, float]:
    """The `top_k` highest, best first; equal ones as they came."""
    return dict(sorted(scores.items(), key=lambda item: -item[1])[:top_k])

"""Batches that are filled up for a GPU's captured passes, on the CPU: what is added changes no bit of any result."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from longspan import Encoder, MultiVectorEncoder
from longspan.models.encoder import TextEncoder
from longspan.models.engines.cpu_engine import CpuEngine
from longspan.models.engines.engine import Fetch, Pass
from longspan.models.engines.workspace import Workspace
from longspan.models.expansion import ExpansionEncoder, turn_rows
from longspan.packing.batch import PackedBatch, pack
from longspan.packing.buckets import AT_ONCE, ROWS, TOKENS, Bucket, bucket_for
from longspan.packing.selection import Selection, select_tokens
from longspan.pipeline import loaded_model
from longspan.pipeline.pooling import select_pooled

TEXTS = ["a short text", "one that is rather longer than the short one, by some words", "x", "two words"]


class FilledEngine(CpuEngine):
    """The CPU's engine, which fills every batch up as a GPU's does."""

    seen: ClassVar[list[Bucket]] = []

    def start(self, work: Pass, batch: PackedBatch, selection: Selection, workspace: Workspace) -> Fetch:
        bucket = bucket_for(len(batch.ids), len(batch.indices))
        assert bucket is not None
        self.seen.append(bucket)
        result = work.run(batch.filled(bucket), selection.filled(bucket), workspace)
        assert len(result) > selection.num_results or bucket.tokens == len(batch.ids)
        return lambda: result[: selection.num_results]


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that are opened from here on fill up."""
    monkeypatch.setattr(loaded_model, "engine_for", lambda *_: FilledEngine())
    FilledEngine.seen.clear()


def test_buckets_hold_what_they_are_for() -> None:
    for tokens in range(1, TOKENS[-1] + 1):
        bucket = bucket_for(tokens, min(tokens, ROWS[-1]))
        assert bucket is not None
        assert tokens <= bucket.tokens <= max(32, (1.5 if tokens <= AT_ONCE else 4 / 3) * tokens)
    assert [bucket_for(5, rows) for rows in (1, 2, 5)] == [Bucket(16, 1), Bucket(16, 4), Bucket(16, 16)]
    assert bucket_for(TOKENS[-1] + 1, 1) is None and bucket_for(TOKENS[-1], ROWS[-1] + 1) is None


def test_what_is_added() -> None:
    [batch] = pack([np.array([5, 6, 7]), np.array([8, 9])], batch_tokens=9, lora_ids=[2, -1])
    full = batch.filled(Bucket(8, 4))
    assert full.ids.tolist() == [5, 6, 7, 8, 9, 0, 0, 0] and full.positions.tolist() == [0, 1, 2, 0, 1, 0, 0, 0]
    assert full.cu_seqlens.tolist() == [0, 3, 5, 6, 7, 8] and full.max_seqlen == 8
    assert full.lora_ids is not None and full.lora_ids.tolist() == [2, 2, 2, -1, -1, -1, -1, -1]
    assert full.cu_seqlens.dtype == full.ids.dtype == full.lora_ids.dtype == np.int32
    exact = batch.filled(Bucket(5, 2))
    assert exact.ids.tolist() == batch.ids.tolist() and exact.cu_seqlens.tolist() == [0, 3, 5, 5]

    last = select_pooled(batch, "lasttoken", None).filled(Bucket(8, 4))
    assert last.tokens is not None and last.tokens.tolist() == [2, 4, 0, 0, 0] and last.num_results == 2
    keep = np.array([False, True, True, False, False])
    mean = select_pooled(batch, "mean", keep).filled(Bucket(8, 4))
    assert mean.tokens is not None and mean.tokens.tolist() == [1, 2, 0, 0, 0, 0, 0, 0]
    assert mean.cu_seqlens is not None and mean.cu_seqlens.tolist() == [0, 2, 2, 4, 6, 8]
    some = select_tokens(batch, [keep[:3], keep[3:]]).filled(Bucket(8, 4))
    assert some.tokens is not None and some.tokens.tolist() == [1, 2, 0, 0, 0, 0, 0, 0] and some.num_results == 2
    assert not Selection(1, spans=np.array([[0, 1]], np.int32)).fills

    turned = turn_rows(batch, 7).filled(Bucket(8, 4))
    assert turned.turned.tolist() == [2, 1, 0, 4, 3, 5, 6, 7] and turned.seen.tolist() == [1, 0, 4, 3, 0, 0, 0, 0]
    assert turned.cu_seqlens_seen.tolist() == [0, 2, 4, 5, 6, 8] and turned.indices is batch.indices


FAMILIES = ["bert-minilm", "xlmr-absolute", "jina-v1-t5", "jina-v2-en", "jina-v3", "modernbert", "nomic-bert", "mpnet"]
DECODERS = ["jina-v5-text-small/model", "jina-v5-text-nano/model", "jina-code/model", "jina-v4/model"]


@pytest.mark.parametrize("family", [*FAMILIES, *DECODERS])
def test_every_family(family: str, golden: Path, filled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Encoder(golden / family)
    monkeypatch.undo()
    plain = Encoder(golden / family)
    ids = [np.arange(3, 3 + length, dtype=np.int32) for length in (16, 1, 7, 30)]
    task = [full.tasks[0], "base", full.tasks[-1], "base"] if full.tasks else None
    pooled = [np.arange(len(text)) % 3 == 1 for text in ids]  # none of the text of one token
    options = ({"pooled": pooled}, {}, {"output_value": "token_embeddings"}, {"truncate_dim": plain.dim})
    for option in options:
        found, truth = (each.encode_ids(ids, task=task, **option) for each in (full, plain))
        for one, true in zip(found, truth, strict=True):
            np.testing.assert_array_equal(one, true)
    assert Bucket(64, 4) in FilledEngine.seen


@pytest.mark.parametrize("attends", [True, False])
@pytest.mark.parametrize("family", ["jina-colbert-v2", "jina-v4/model"])
def test_token_vectors(family: str, attends: bool, golden: Path, filled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    full = MultiVectorEncoder(golden / family, attend_to_mask_tokens=attends)
    monkeypatch.undo()
    plain = MultiVectorEncoder(golden / family, attend_to_mask_tokens=attends)
    assert type(plain._query_encoder) is (TextEncoder if attends or "v4" in family else ExpansionEncoder)
    task = "retrieval" if family.startswith("jina-v4") else None
    for name in ("encode_queries", "encode_documents"):
        found, truth = (getattr(each, name)(TEXTS, task=task) for each in (full, plain))
        for one, true in zip(found, truth, strict=True):
            np.testing.assert_array_equal(one, true)

"""Tokens whose embeddings are a task's own: they enter a batch as features do, each row of it with its own task's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from longspan.models.parts import TaskTokens
from longspan.packing.batch import PackedBatch
from longspan.packing.media import FeatureBatch, of_batch


def with_task_rows(batch: PackedBatch, tokens: TaskTokens) -> PackedBatch:
    """The batch, where such tokens begin as what the adapter of their row says; all on the host. Tokens that are
    features already, as those that stand for an image, stay so. Rows without an adapter, or with one that was loaded
    later, have the embeddings of the table."""
    if batch.lora_ids is None:
        return batch
    order = np.searchsorted(tokens.ids, batch.ids).clip(0, len(tokens.ids) - 1)
    has_own = (tokens.ids[order] == batch.ids) & (batch.lora_ids >= 0) & (batch.lora_ids < len(tokens.rows))
    if isinstance(batch, FeatureBatch):
        has_own[batch.feature_rows] = False
    places = np.flatnonzero(has_own).astype(np.int32)
    if not len(places):
        return batch
    own = tokens.rows[batch.lora_ids[places], order[places]]
    if not isinstance(batch, FeatureBatch):
        return FeatureBatch(**of_batch(batch), features=own, feature_rows=places)
    features, rows = np.concatenate([batch.features, own]), np.concatenate([batch.feature_rows, places])
    return replace(batch, features=features, feature_rows=rows)

"""Pairs for runtimes without packing: a cross-encoder's graph, and how it is fed: sorted, in batches, padded."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..cache import kept
from .subject import BATCH_SIZES

PROBE_PAIRS: Final = 32  # pairs that choose a batch size
OPSET: Final = 17

Pairs = Sequence[tuple[str, str]]
PairForward = Callable[..., np.ndarray]  # the graph's inputs (batch, longest) int64 -> (batch, 1) f32
Score = Callable[[Pairs], np.ndarray]


@dataclass(frozen=True, slots=True)
class PairSubject:
    """A cross-encoder on disk."""

    folder: Path
    max_length: int
    has_types: bool
    config: Mapping[str, Any]

    @classmethod
    def of(cls, folder: Path, max_length: int) -> PairSubject:
        """The checkpoint in `folder`."""
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return cls(folder, max_length, config["type_vocab_size"] > 1, config)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The graph's, in order."""
        names = ("input_ids", "attention_mask", "token_type_ids")
        return names if self.has_types else names[:2]

    @property
    def key(self) -> tuple[str, ...]:
        """All that an export of it depends on."""
        weights = self.folder / "model.safetensors"
        return (str(self.folder), str(weights.stat().st_size), str(weights.stat().st_mtime_ns))


class PaddedPairs:
    """Scores pairs by a forward pass on padded batches, pairs of like length together."""

    def __init__(self, subject: PairSubject, forward: PairForward, batch_size: int) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(subject.folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(subject.max_length)
        self._padding = int(subject.config["pad_token_id"])
        self._has_types = subject.has_types
        self._forward = forward
        self._batch_size = batch_size

    def __call__(self, pairs: Pairs) -> np.ndarray:
        """(n,) f32."""
        encodings = self._tokenizer.encode_batch_fast(list(pairs))
        order = np.argsort([-len(encoding.ids) for encoding in encodings], kind="stable")
        logits = np.empty(len(encodings), np.float32)
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            batch = [encodings[index] for index in chosen]
            ids = np.full((len(batch), len(batch[0].ids)), self._padding, np.int64)
            mask, types = np.zeros_like(ids), np.zeros_like(ids)
            for place, encoding in enumerate(batch):
                size = len(encoding.ids)
                ids[place, :size], mask[place, :size] = encoding.ids, 1
                if self._has_types:
                    types[place, :size] = encoding.type_ids
            logits[chosen] = self._forward(ids, mask, *((types,) if self._has_types else ()))[:, 0]
        return logits


def padded(subject: PairSubject, forwards: Mapping[str, PairForward]) -> dict[str, Score]:
    """Every forward pass with every batch size, named `batches of 32`, `fused, batches of 32`."""
    return {
        ", ".join(filter(None, [name, f"batches of {size}"])): PaddedPairs(subject, forward, size)
        for name, forward in forwards.items()
        for size in BATCH_SIZES
    }


def quickest(variants: Mapping[str, Score], pairs: Pairs) -> tuple[str, Score]:
    """The one of several ways that is quickest with some of the pairs; its name tells which."""
    import time

    some = pairs[:: max(1, len(pairs) // PROBE_PAIRS)]
    seconds: dict[str, float] = {}
    for name, score in variants.items():
        score(some[:1])
        started = time.perf_counter()
        score(some)
        seconds[name] = time.perf_counter() - started
    best = min(seconds, key=seconds.__getitem__)
    return best, variants[best]


def onnx_pairs(subject: PairSubject) -> Path:
    """The graph from ids to logits, traced from transformers' own module."""
    import torch
    import transformers

    class Logits(torch.nn.Module):  # type: ignore[misc]  # torch is not looked into
        """Token ids, mask and types in, logits out."""

        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            """(batch, 1) f32."""
            return self.model(**dict(zip(subject.inputs, inputs, strict=True))).logits

    def make(folder: Path) -> None:
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            str(subject.folder), attn_implementation="eager", dtype=torch.float32, local_files_only=True
        ).eval()
        ids = torch.randint(5, 1000, (2, 16))
        inputs = (ids, torch.ones_like(ids), torch.zeros_like(ids))[: len(subject.inputs)]
        axes = {0: "batch", 1: "tokens"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's own remarks on transformers' code
            torch.onnx.export(
                Logits(model),
                inputs,
                str(folder / "model.onnx"),
                input_names=list(subject.inputs),
                output_names=["logits"],
                dynamic_axes={**dict.fromkeys(subject.inputs, axes), "logits": {0: "batch"}},
                opset_version=OPSET,
                dynamo=False,
            )

    parts = (*subject.key, torch.__version__, transformers.__version__, str(OPSET), Path(__file__).read_text("utf-8"))
    return kept("onnx-pairs", parts, make) / "model.onnx"

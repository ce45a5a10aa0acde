"""fastembed: SPLADE through ONNX Runtime, whose logits of every token go through NumPy's log1p and a maximum.

It knows models by their names on the hub; the name of one says only which code runs, and the folder is ours: a graph
traced from transformers' masked-language model, with the tokenizer of the checkpoint.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transformers
from fastembed import SparseTextEmbedding
from transformers.utils import logging

from ..cache import kept
from ..case import Contestant, Setting
from . import AbsentError
from .exported import OPSET
from .subject import fastest

logging.disable_progress_bar()
NAME: Final = "prithivida/Splade_PP_en_v1"
BATCH_SIZES: Final = (1, 4, 8)  # each text of a batch has its tokens' logits in memory several times
INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")


class _Logits(torch.nn.Module):  # type: ignore[misc]  # torch is not looked into
    """Token ids, mask and types in, logits out."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, vocabulary) f32."""
        logits: torch.Tensor = self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits
        return logits


def sparse_encode(
    setting: Setting, folder: Path, max_length: int, texts: list[str], checked: list[int]
) -> list[Contestant]:
    """float32, in the best of a few batch sizes."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    pooling = json.loads((folder / "1_SpladePooling" / "config.json").read_text(encoding="utf-8"))
    kind = config.get("model_type"), pooling.get("pooling_strategy"), pooling.get("activation_function")
    if kind != ("bert", "max", "relu"):
        raise AbsentError("fastembed takes the maximum of log1p of BERT's logits alone")
    model = _model(str(_graph(folder, max_length)), setting.threads)

    def embed(size: int) -> Any:
        return lambda some: list(model.embed(list(some), batch_size=size))

    def read(out: Sequence[Any]) -> np.ndarray:
        dense = np.zeros((len(checked), config["vocab_size"]), np.float32)
        for row, place in enumerate(checked):
            dense[row, out[place].indices] = out[place].values
        return dense

    note, best = fastest({f"batches of {size}": embed(size) for size in BATCH_SIZES}, texts)
    return [Contestant("fastembed", lambda: best(texts), read=read, note=note)]


@cache
def _model(folder: str, threads: int) -> SparseTextEmbedding:
    return SparseTextEmbedding(NAME, threads=threads, cuda=False, specific_model_path=folder, local_files_only=True)


def _graph(folder: Path, max_length: int) -> Path:
    """The folder that fastembed reads; made once a checkpoint and version of torch and transformers."""

    def make(made: Path) -> None:
        model = transformers.AutoModelForMaskedLM.from_pretrained(
            str(folder), attn_implementation="eager", dtype=torch.float32, local_files_only=True
        ).eval()
        ids = torch.randint(5, 1000, (2, 16))
        axes = {0: "batch", 1: "tokens"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's own remarks on transformers' code
            torch.onnx.export(
                _Logits(model),
                (ids, torch.ones_like(ids), torch.zeros_like(ids)),
                str(made / "model.onnx"),
                input_names=list(INPUTS),
                output_names=["logits"],
                dynamic_axes={**dict.fromkeys(INPUTS, axes), "logits": axes},
                opset_version=OPSET,
                dynamo=False,
            )
        for name in ("config.json", "tokenizer.json"):
            shutil.copyfile(folder / name, made / name)
        settings = {"model_max_length": max_length, "pad_token": "[PAD]"}
        (made / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")

    weights = (folder / "model.safetensors").stat()
    key = (str(folder), str(weights.st_size), str(weights.st_mtime_ns), str(max_length), str(OPSET))
    return kept(
        "fastembed", (*key, torch.__version__, transformers.__version__, Path(__file__).read_text("utf-8")), make
    )

"""A checkpoint as an ONNX graph: traced from transformers' own module, with pooling and normalisation in the graph."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Final

import torch
import transformers

from ..cache import kept
from .subject import Subject

INPUTS: Final = ("input_ids", "attention_mask")
OPSET: Final = 17


class _Embedding(torch.nn.Module):  # type: ignore[misc]  # torch is not looked into
    """Token ids and mask in, vectors of unit length out."""

    def __init__(self, model: torch.nn.Module, pooling: str) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """(batch, dim) f32."""
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        if self.pooling == "cls":
            vectors = hidden[:, 0]
        else:
            weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
            vectors = (hidden * weights).sum(1) / weights.sum(1)
        return torch.nn.functional.normalize(vectors, dim=1)


def onnx_file(subject: Subject) -> Path:
    """The graph; traced once a machine and version of torch and transformers."""

    def make(folder: Path) -> None:
        model = transformers.AutoModel.from_pretrained(
            str(subject.folder), attn_implementation="eager", dtype=torch.float32, local_files_only=True
        ).eval()
        ids = torch.randint(5, 1000, (2, 16))
        axes = {0: "batch", 1: "tokens"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's own remarks on transformers' code
            torch.onnx.export(
                _Embedding(model, subject.pooling),
                (ids, torch.ones_like(ids)),
                str(folder / "model.onnx"),
                input_names=list(INPUTS),
                output_names=["vectors"],
                dynamic_axes={**dict.fromkeys(INPUTS, axes), "vectors": {0: "batch"}},
                opset_version=OPSET,
                dynamo=False,
            )

    parts = (*subject.key, torch.__version__, transformers.__version__, str(OPSET), Path(__file__).read_text("utf-8"))
    return kept("onnx", parts, make) / "model.onnx"

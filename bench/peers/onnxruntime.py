"""ONNX Runtime: the traced graph and the one that its own transformer optimiser fuses, in float32 and dynamic int8."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers import optimizer

from ..cache import kept
from ..case import Contestant, Numerics, Setting
from .exported import onnx_file
from .pairs import PairForward, PairSubject, onnx_pairs, padded, quickest
from .subject import Subject, batched, fastest, first

KINDS: Final[tuple[tuple[str, Numerics, str], ...]] = (
    ("onnxruntime", "float32", ""),
    ("onnxruntime int8", "int8", "_int8"),
)
FLOAT: Final = 1  # onnx.TensorProto.FLOAT, which shape inference cannot see through fused operators


def encode(setting: Setting, subject: Subject, texts: list[str]) -> list[Contestant]:
    """The faster of both graphs, in the best of a few batch sizes."""
    folder = _graphs(subject, onnx_file(subject))
    contestants = []
    for name, numerics, suffix in KINDS:
        forwards = {graph: _forward(folder / f"{graph}{suffix}.onnx", setting.threads) for graph in ("traced", "fused")}
        note, embed = fastest(batched(subject, forwards), texts)
        contestants.append(Contestant(name, partial(embed, texts), numerics, note=note))
    return contestants


def rerank(setting: Setting, subject: PairSubject, pairs: list[tuple[str, str]]) -> list[Contestant]:
    """As `encode`, of a cross-encoder's graph."""
    folder = _graphs(subject, onnx_pairs(subject))
    contestants = []
    for name, numerics, suffix in KINDS:
        graphs = {graph: folder / f"{graph}{suffix}.onnx" for graph in ("traced", "fused")}
        forwards = {graph: _forward(path, setting.threads) for graph, path in graphs.items()}
        note, score = quickest(padded(subject, forwards), pairs)
        contestants.append(Contestant(name, partial(score, pairs), numerics, note=note))
    return contestants


def look(setting: Setting, name: str, layers: int, pixels: np.ndarray) -> list[Contestant]:
    """A tower's graph, or a language side's, on what it reads, as it was traced, and with its products in int8."""
    from .media_modules import is_large, onnx_of

    traced, contestants = onnx_of(name, layers), []

    def make(folder: Path) -> None:
        quantize_dynamic(
            traced,
            folder / "model.onnx",
            weight_type=QuantType.QInt8,
            per_channel=True,
            use_external_data_format=is_large(traced),
            extra_options={"DefaultTensorType": FLOAT},
        )

    for own, numerics, suffix in KINDS:
        if numerics not in setting.dtypes:
            continue
        path = traced
        if suffix:
            path = kept("onnxruntime-towers", (str(traced), onnxruntime.__version__), make) / "model.onnx"
        forward = _forward(path, setting.threads)
        contestants.append(Contestant(own, partial(forward, pixels), numerics, first))
    return contestants


@cache
def _forward(path: Path, threads: int) -> PairForward:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    names = [own.name for own in session.get_inputs()]

    def forward(*inputs: np.ndarray) -> np.ndarray:
        return session.run(None, dict(zip(names, inputs, strict=True)))[0]

    return forward


def _graphs(subject: Subject | PairSubject, traced: Path) -> Path:

    def make(folder: Path) -> None:
        (folder / "traced.onnx").symlink_to(traced)
        sizes = {"num_heads": subject.config["num_attention_heads"], "hidden_size": subject.config["hidden_size"]}
        fused = optimizer.optimize_model(str(traced), model_type="bert", opt_level=0, **sizes)
        fused.save_model_to_file(str(folder / "fused.onnx"))
        for name in ("traced", "fused"):
            quantize_dynamic(
                folder / f"{name}.onnx",
                folder / f"{name}_int8.onnx",
                weight_type=QuantType.QInt8,
                per_channel=True,
                extra_options={"DefaultTensorType": FLOAT},
            )

    return kept("onnxruntime", (str(traced), onnxruntime.__version__, Path(__file__).read_text("utf-8")), make)

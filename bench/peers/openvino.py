"""OpenVINO: the traced graph in float32 and bfloat16, and in int8 by NNCF's calibration; for latency and throughput."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino

from ..cache import kept
from ..case import Contestant, Numerics, Setting
from ..models.texts import Lengths, draw_texts
from .exported import INPUTS, onnx_file
from .pairs import PairSubject, onnx_pairs, padded, quickest
from .subject import Embed, Padded, Subject, batched, fastest, first

KINDS: Final[tuple[tuple[str, Numerics, str], ...]] = (
    ("openvino", "float32", "f32"),
    ("openvino bfloat16", "bfloat16", "bf16"),
    ("openvino int8", "int8", "f32"),
)
CALIBRATION: Final = Lengths(128, 8, 200, 60)  # texts to find the activations' ranges with
CALIBRATED: Final = 8  # images that do so for a tower


def encode(setting: Setting, subject: Subject, texts: list[str]) -> list[Contestant]:
    """The faster of one stream with all threads and one stream a thread, in the best of a few batch sizes."""
    core = openvino.Core()
    if "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        kinds = [kind for kind in KINDS if kind[1] != "bfloat16"]
    else:
        kinds = list(KINDS)
    contestants = []
    for name, numerics, precision in kinds:
        try:
            path = _quantized(subject) if numerics == "int8" else onnx_file(subject)
        except ImportError:  # NNCF is an extra of its own
            continue
        variants = _variants(subject, path, precision, setting.threads)
        note, embed = fastest(variants, texts)
        contestants.append(Contestant(name, partial(embed, texts), numerics, note=note))
    return contestants


def rerank(setting: Setting, subject: PairSubject, pairs: list[tuple[str, str]]) -> list[Contestant]:
    """A cross-encoder's graph in float32 and bfloat16, in the best of a few batch sizes."""
    core, path = openvino.Core(), onnx_pairs(subject)
    contestants = []
    for name, numerics, precision in KINDS:
        if numerics == "int8" or (
            precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        ):
            continue  # int8 by calibration is `encode`'s
        request = _compiled(path, precision, setting.threads, 1).create_infer_request()

        def forward(*inputs: np.ndarray, request: Any = request) -> np.ndarray:
            return request.infer(dict(zip(subject.inputs, inputs, strict=True)))[0].copy()

        note, score = quickest(padded(subject, {"": forward}), pairs)
        contestants.append(Contestant(name, partial(score, pairs), numerics, note=note))
    return contestants


def look(setting: Setting, name: str, layers: int, pixels: np.ndarray) -> list[Contestant]:
    """A tower's graph, or a language side's, on what it reads: in float32, in bfloat16, in int8 by NNCF."""
    from .media_modules import INPUT, onnx_of

    contestants = []
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for own, numerics, precision in KINDS:
        if numerics not in setting.dtypes or (precision == "bf16" and "BF16" not in capabilities):
            continue
        try:
            path = _quantized_tower(name, layers) if numerics == "int8" else onnx_of(name, layers)
        except ImportError as error:  # NNCF is an extra of its own
            contestants.append(_missing(own, numerics, error))
            continue
        request = _compiled(path, precision, setting.threads, 1).create_infer_request()

        def run(request: Any = request) -> np.ndarray:
            return request.infer({INPUT: pixels})[0].copy()

        contestants.append(Contestant(own, run, numerics, first))
    return contestants


def _missing(name: str, numerics: Numerics, error: ImportError) -> Contestant:
    """One that cannot run, and tells why in its row."""

    def run() -> np.ndarray:
        raise ImportError(f"{error.name or error} is not installed: pip install nncf")

    return Contestant(name, run, numerics, first)


@cache
def _compiled(path: Path, precision: str, threads: int, streams: int) -> Any:
    core = openvino.Core()
    hint = "LATENCY" if streams == 1 else "THROUGHPUT"
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": streams,
    }
    return core.compile_model(core.read_model(path), "CPU", settings)


def _variants(subject: Subject, path: Path, precision: str, threads: int) -> dict[str, Embed]:
    request = _compiled(path, precision, threads, 1).create_infer_request()

    def forward(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return request.infer(dict(zip(INPUTS, (ids, mask), strict=True)))[0].copy()

    variants: dict[str, Embed] = dict(batched(subject, {"": forward}))
    if threads > 1:
        compiled = _compiled(path, precision, threads, threads)
        for size in (8, 16):
            variants[f"{threads} streams, batches of {size}"] = _Streams(subject, compiled, threads, size)
    return variants


class _Streams:
    """Batches in flight at once, one a thread: OpenVINO's way to throughput."""

    def __init__(self, subject: Subject, compiled: Any, streams: int, batch_size: int) -> None:
        self._queue = openvino.AsyncInferQueue(compiled, streams)
        self._queue.set_callback(self._done)
        self._found: dict[int, np.ndarray] = {}
        self._count = 0
        self._padded = Padded(subject, self._later, batch_size)

    def __call__(self, texts: Any) -> np.ndarray:
        """(n, dim) f32. The queue is filled while texts are prepared; vectors are set in their places at the end."""
        self._found.clear()
        self._count = 0
        places = self._padded(texts)  # (n, 2): the batch of each text, and its row there
        self._queue.wait_all()
        found = [self._found[batch] for batch in range(self._count)]
        starts = np.cumsum([0, *map(len, found)])
        return np.concatenate(found)[starts[places[:, 0]] + places[:, 1]]

    def _later(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        self._queue.start_async(dict(zip(INPUTS, (ids, mask), strict=True)), self._count)
        places = np.stack([np.full(len(ids), self._count), np.arange(len(ids))], axis=1)
        self._count += 1
        return places

    def _done(self, request: Any, batch: int) -> None:
        self._found[batch] = request.get_output_tensor().data.copy()


def _quantized(subject: Subject) -> Path:
    traced = onnx_file(subject)
    import nncf

    def make(folder: Path) -> None:
        batches: list[dict[str, np.ndarray]] = []

        def keep(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            batches.append(dict(zip(INPUTS, (ids, mask), strict=True)))
            return np.zeros((len(ids), 1), np.float32)

        Padded(subject, keep, 1)(draw_texts(CALIBRATION, [1]))
        model = openvino.Core().read_model(traced)
        quantized = nncf.quantize(model, nncf.Dataset(batches), model_type=nncf.ModelType.TRANSFORMER)
        openvino.save_model(quantized, folder / "model.xml", compress_to_fp16=False)

    parts = (str(traced), openvino.__version__, nncf.__version__, Path(__file__).read_text("utf-8"))
    return kept("openvino", parts, make) / "model.xml"


def _quantized_tower(name: str, layers: int) -> Path:
    """Calibrated on inputs that nothing is measured on."""
    from .media_modules import INPUT, example_of, onnx_of

    traced = onnx_of(name, layers)
    import nncf

    def make(folder: Path) -> None:
        inputs = [{INPUT: example_of(name, seed)} for seed in range(1000, 1000 + CALIBRATED)]
        model = openvino.Core().read_model(traced)
        quantized = nncf.quantize(
            model, nncf.Dataset(inputs), model_type=nncf.ModelType.TRANSFORMER, subset_size=CALIBRATED
        )
        openvino.save_model(quantized, folder / "model.xml", compress_to_fp16=False)

    parts = (str(traced), openvino.__version__, nncf.__version__, str(CALIBRATED))
    return kept("openvino-towers", parts, make) / "model.xml"

"""Small batches as captured passes. On a GPU CUDA captures them; elsewhere a recorder runs the pass again, on the same
buffers, so that all but the capture itself is tried in Triton's interpreter."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kernel_cases import DEVICE, ON_GPU, torch
from longspan import Encoder, MultiVectorEncoder
from longspan.models.engines.torch_copies import Layout, copies_for
from longspan.models.engines.torch_engine import TorchEngine
from longspan.models.engines.torch_graphs import CudaRecorder, Graphs, Launch
from torch_models import assert_agree, open_with

pytestmark = pytest.mark.filterwarnings("error:capturing a CUDA graph:RuntimeWarning")
FAMILIES = ["jina-v3", "mpnet", "jina-code/model"]  # adapters and RoPE, a bias table, a causal model
if ON_GPU:
    FAMILIES += [
        "bert-minilm",
        "xlmr-absolute",
        "jina-v1-t5",
        "jina-v2-en",
        "modernbert",
        "nomic-bert",
        "jina-v4/model",
    ]


class Rerun:
    """Runs the pass again where CUDA would replay it, into the same result."""

    def __init__(self) -> None:
        self.records = self.replays = 0

    def record(self, launch: Launch) -> tuple[Callable[[], None], torch.Tensor]:
        self.records += 1
        result = launch()

        def replay() -> None:
            self.replays += 1
            result.copy_(launch())

        return replay, result.fill_(torch.nan)  # as after a capture, which computes nothing


class Fickle(Rerun):
    """Fails while it is told to."""

    fails = False

    def record(self, launch: Launch) -> tuple[Callable[[], None], torch.Tensor]:
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        return super().record(launch)


def texts_of(*lengths: int, first: int = 3) -> list[np.ndarray]:
    return [np.arange(first + place, first + place + length, dtype=np.int32) for place, length in enumerate(lengths)]


def plain(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: type = Encoder, **options: object) -> Encoder:
    """The model without graphs."""
    return open_with(TorchEngine(DEVICE, "float32", cuda_graphs=False), folder, monkeypatch, kind, **options)


def engine(recorder: Rerun | CudaRecorder) -> TorchEngine:
    return TorchEngine(DEVICE, "float32", recorder=recorder)


@pytest.mark.parametrize("family", FAMILIES)
def test_replays_of_every_family(family: str, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Rerun()
    encoder, without = open_with(engine(recorder), golden / family, monkeypatch), plain(golden / family, monkeypatch)
    captured = open_with(TorchEngine(DEVICE, "float32"), golden / family, monkeypatch) if ON_GPU else None
    for lengths, first in (((9, 2), 3), ((1, 4, 3), 20)):  # one size for both
        ids = texts_of(*lengths, first=first)
        task = [encoder.tasks[place] for place in range(len(ids))] if encoder.tasks else None
        found = np.asarray(encoder.encode_ids(ids, task=task))
        assert_agree(found, np.asarray(without.encode_ids(ids, task=task)), "float32", str(lengths))
        if captured is not None:
            np.testing.assert_array_equal(np.asarray(captured.encode_ids(ids, task=task)), found)
    assert (recorder.records, recorder.replays) == (1, 2)


@pytest.mark.parametrize("attends", [True, False])
def test_replays_of_token_vectors(attends: bool, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, options = Rerun(), {"attend_to_mask_tokens": attends, "query_maxlen": 12}
    model = open_with(engine(recorder), golden / "jina-colbert-v2", monkeypatch, MultiVectorEncoder, **options)
    without = plain(golden / "jina-colbert-v2", monkeypatch, MultiVectorEncoder, **options)
    for name, text in (("queries", "a b"), ("queries", "what is it, then"), ("documents", "one, two; three!")):
        found, truth = (getattr(each, f"encode_{name}")(text) for each in (model, without))
        assert_agree(found, truth, "float32", text)
    # With their own encoder queries are another pass than documents; else all are filled up to the same size.
    assert (recorder.records, recorder.replays) == ((1, 3) if attends else (2, 3))


def test_each_pass_is_its_own(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Rerun()
    encoder = open_with(engine(recorder), golden / "bert-minilm", monkeypatch)
    without = plain(golden / "bert-minilm", monkeypatch)
    ids, keep = texts_of(5), [np.arange(5) > 1]
    options = [{}, {"truncate_dim": 8}, {"normalize_embeddings": False}, {"output_value": "token_embeddings"}]
    for option in [*options, {"pooled": keep}, {}, {"pooled": [~keep[0]]}]:
        found, truth = (each.encode_ids(ids, **option) for each in (encoder, without))
        for one, true in zip(found, truth, strict=True):
            assert_agree(one, true, "float32", str(option))
    assert recorder.records == 5
    encoder._encoder.weights = replace(encoder._encoder.weights)  # as `load_adapter` does
    encoder.encode_ids(ids)
    assert recorder.records == 6


def test_what_is_large_runs_plainly(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Rerun()
    encoder = open_with(engine(recorder), golden / "bert-minilm", monkeypatch)
    monkeypatch.setattr("longspan.packing.buckets.TOKENS", (16,))
    encoder.encode_ids(texts_of(17))
    encoder.encode_chunks("Some text. And some more.")  # any number of spans
    assert recorder.records == 0
    assert np.asarray(encoder.encode_ids([])).shape == (0, encoder.dim)


def test_tables_that_grow_stay_where_a_capture_reads_them(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = open_with(engine(Rerun()), golden / "jina-v5-text-small/model", monkeypatch)
    text_encoder = encoder._encoder
    [rotary] = {layer.rotary for layer in encoder.spec.layers}
    short = text_encoder._tables(rotary, 40)
    assert text_encoder._tables(rotary, 400)[0] is short[0] and len(text_encoder._tables(rotary, 600)[0]) == 1024
    assert text_encoder._outgrown_tables == [short]


def test_capturing_that_fails_is_tried_again_and_then_given_up(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For its own size alone: what runs as a graph goes on doing so, and other sizes are captured."""
    recorder = Fickle()
    encoder = open_with(engine(recorder), golden / "bert-minilm", monkeypatch)
    truth = np.asarray(plain(golden / "bert-minilm", monkeypatch).encode_ids(texts_of(4)))
    before = np.asarray(encoder.encode_ids(texts_of(20)))
    recorder.fails = True
    for until in ("this time", "this time", "from now on"):
        message = (
            rf"graph of 16 tokens in 2 rows failed, so {until} it runs without \(RuntimeError: operation [a-z ]*\)$"
        )
        with pytest.warns(RuntimeWarning, match=message):
            assert_agree(np.asarray(encoder.encode_ids(texts_of(4))), truth, "float32", until)
    recorder.fails = False
    records = recorder.records
    assert_agree(np.asarray(encoder.encode_ids(texts_of(4))), truth, "float32", "given up")  # without a warning
    np.testing.assert_array_equal(np.asarray(encoder.encode_ids(texts_of(20))), before)
    assert recorder.records == records == 1
    encoder.encode_ids(texts_of(40))
    assert recorder.records == 2


def test_a_failure_that_passes_is_forgotten(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Fickle()
    encoder = open_with(engine(recorder), golden / "bert-minilm", monkeypatch)
    recorder.fails = True
    with pytest.warns(RuntimeWarning, match="this time it runs without"):
        encoder.encode_ids(texts_of(4))
    recorder.fails = False
    encoder.encode_ids(texts_of(4))
    assert recorder.records == 1


def test_large_passes_are_captured_when_they_come_again(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Rerun()
    encoder = open_with(engine(recorder), golden / "bert-minilm", monkeypatch)
    monkeypatch.setattr("longspan.models.engines.torch_engine.AT_ONCE", 16)
    first = np.asarray(encoder.encode_ids(texts_of(20, 3)))
    assert recorder.records == 0
    for _ in range(2):
        np.testing.assert_array_equal(np.asarray(encoder.encode_ids(texts_of(20, 3))), first)
    assert (recorder.records, recorder.replays) == (1, 2)


def test_warm_up(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both kinds of sizes; nothing is left to capture then."""
    recorder = Rerun()
    encoder = open_with(engine(recorder), golden / "bert-minilm", monkeypatch)
    monkeypatch.setattr("longspan.models.engines.torch_engine.AT_ONCE", 16)
    encoder.warm_up([5, (3, 8)])
    assert recorder.records == 2
    encoder.encode_ids(texts_of(11))
    encoder.encode_ids(texts_of(12, 7, 4))
    assert recorder.records == 2
    for wrong in (0, 10**6, (0, 5)):
        with pytest.raises(ValueError, match="warm_up: sizes must be 1 or more texts of 1 to 512 tokens, got"):
            encoder.warm_up([wrong])


def test_threads_share_recordings(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = CudaRecorder(torch.device(DEVICE)) if ON_GPU else Rerun()
    encoder = open_with(engine(recorder), golden / "bert-minilm", monkeypatch)
    cases = [texts_of(length, first=first) for length, first in ((3, 5), (4, 9), (20, 7), (5, 30))]
    alone = [np.asarray(encoder.encode_ids(ids)) for ids in cases]
    wrong: list[int] = []

    def run(number: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()) if ON_GPU else nullcontext():
            for turn in range(100 if ON_GPU else 2):
                place = (number + turn) % len(cases)
                if not np.array_equal(np.asarray(encoder.encode_ids(cases[place])), alone[place]):
                    wrong.append(place)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_tensors_of_inference_mode_are_not_kept(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sentence-transformers encodes in inference mode; what is made there could not be written to outside of it."""
    encoder = open_with(engine(Rerun()), golden / "bert-minilm", monkeypatch)
    monkeypatch.setattr("longspan.packing.buckets.TOKENS", (16,))
    small, large = texts_of(4), texts_of(17)
    with torch.inference_mode():
        found = [np.asarray(encoder.encode_ids(ids)) for ids in (small, large)]
    for ids, before in zip((small, large), found):
        np.testing.assert_array_equal(np.asarray(encoder.encode_ids(ids)), before)


def test_recordings_that_were_not_used_for_longest_go_first() -> None:
    recorder, device = Rerun(), torch.device(DEVICE)
    graphs = Graphs(copies_for(device), recorder, device, capacity=2)
    keys, results = iter("aabacb"), []
    for number, (key, records) in enumerate(zip(keys, (1, 1, 2, 2, 3, 4))):
        values = np.full((3, 2), number, np.int32)
        fetch = graphs.start(key, [values], lambda tensors: tensors[0] + 1.0, 2)
        assert fetch is not None and recorder.records == records, number
        results.append(fetch)
    assert len(graphs) == 2
    for number, fetch in enumerate(results):  # results of earlier passes are none of later ones' business
        np.testing.assert_array_equal(fetch(), np.full((2, 2), number + 1))


def test_layout() -> None:
    arrays = [np.arange(5, dtype=np.int32), np.arange(6).reshape(2, 3), np.zeros(0, np.int32), np.array([7], np.int64)]
    layout = Layout.of(arrays)
    assert [slot.start for slot in layout.slots] == [0, 32, 80, 80] and layout.size == 96
    buffer = torch.zeros(layout.size, dtype=torch.uint8)
    layout.write(arrays, buffer)
    for array, tensor in zip(arrays, layout.read(buffer), strict=True):
        assert tensor.data_ptr() % 16 == buffer.data_ptr() % 16 and tensor.numpy().dtype == array.dtype
        np.testing.assert_array_equal(tensor.numpy(), array)
    assert Layout.of(arrays) == layout != Layout.of(arrays[:3])

"""What of the engine only a GPU shows: that nothing waits, that streams are kept apart, that captures are captures."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from kernel_cases import ON_GPU, torch
from longspan import Encoder, MultiVectorEncoder
from longspan.models.engines.engine import Fetch
from longspan.models.engines.torch_copies import copies_for
from longspan.models.engines.torch_engine import TorchEngine
from longspan.models.engines.torch_graphs import CudaRecorder, Graphs
from torch_models import assert_agree

pytestmark = [
    pytest.mark.skipif(not ON_GPU, reason="no CUDA device"),
    pytest.mark.filterwarnings("error:capturing a CUDA graph:RuntimeWarning"),
]
TEXT = "Late chunking reads all of it first. Then each sentence gets a vector. So it knows its neighbours."


def watch(engine: TorchEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on torch raises where a pass waits for the device."""
    plain = engine.start

    def start(*args: object) -> Fetch:
        torch.cuda.set_sync_debug_mode("error")
        try:
            return plain(*args)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(engine, "start", start)


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("family", ["jina-v3", "mpnet", "modernbert", "jina-v5-text-small/model"])
def test_nothing_waits_for_the_device(family: str, graphs: bool, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(golden / family, "cuda", cuda_graphs=graphs)
    how = {"task": encoder.tasks[0] if encoder.tasks else None}
    calls = [
        lambda: encoder.encode(TEXT, **how),
        lambda: encoder.encode([TEXT] * 65, **how),
        lambda: encoder.encode(TEXT, output_value="token_embeddings", **how),
        lambda: encoder.encode_chunks(TEXT, **how).embeddings,
    ]
    first = [np.asarray(call()) for call in calls]  # compiles, captures, fills tables: that may wait
    watch(encoder._encoder.engine, monkeypatch)
    for call, before in zip(calls, first, strict=True):
        np.testing.assert_array_equal(np.asarray(call()), before)


@pytest.mark.parametrize("graphs", [True, False])
def test_nothing_waits_for_a_pooling(
    graphs: bool, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them side by side; what fails to be captured is an error here."""
    folder = Path(shutil.copytree(golden / "bert-minilm", tmp_path / "model"))
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    config = {"word_embedding_dimension": 64, **{f"pooling_mode_{mode}": True for mode in modes}}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    encoder = Encoder(folder, "cuda", cuda_graphs=graphs)
    texts = [TEXT, "short", TEXT + TEXT]
    before = np.asarray(encoder.encode(texts))
    assert before.shape == (3, 6 * 64)
    watch(encoder._encoder.engine, monkeypatch)
    np.testing.assert_array_equal(np.asarray(encoder.encode(texts)), before)


def test_threads_that_launch_for_the_first_time(golden: Path) -> None:
    """In a process of its own, which has loaded no kernel yet."""
    command = [sys.executable, "-c", FIRST, str(golden / "jina-v2-en")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0 and done.stdout.endswith("fine\n"), done.stderr[-2000:]


@pytest.mark.parametrize("attends", [True, False])
def test_nothing_waits_for_token_vectors(attends: bool, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MultiVectorEncoder(golden / "jina-colbert-v2", "cuda", attend_to_mask_tokens=attends)
    first = [model.encode_queries(TEXT), model.encode_documents(TEXT)]
    watch(model._encoder.engine, monkeypatch)
    for found, before in zip([model.encode_queries(TEXT), model.encode_documents(TEXT)], first, strict=True):
        np.testing.assert_array_equal(found, before)


def test_small_batches_are_captured_once_for_each_size(golden: Path) -> None:
    encoder = Encoder(golden / "bert-minilm", "cuda")
    graphs = encoder._encoder.engine._graphs
    for length, number in ((3, 1), (16, 1), (17, 2), (9, 2), (30, 2)):
        encoder.encode_ids([np.arange(5, 5 + length)])
        assert len(graphs) == number, length


def test_replays_on_different_streams_do_not_meet() -> None:
    """Each writes the same memory; a stream that is held up must not find there what a later one has put in."""
    device = torch.device("cuda", torch.cuda.current_device())
    graphs = Graphs(copies_for(device), CudaRecorder(device), device)
    streams = [torch.cuda.Stream() for _ in range(3)]
    fetches = []
    for number in range(30):
        with torch.cuda.stream(streams[number % 3]):
            torch.cuda._sleep(1_000_000 * (number % 4))  # half a millisecond each, before the pass
            values = [np.full((1 << 16,), number, np.int32)]
            fetch = graphs.start("pass", values, lambda tensors: (tensors[0].double() * 2 + 1)[:, None], 1 << 16)
            assert fetch is not None
            fetches.append(fetch)
    for number, fetch in enumerate(fetches):
        assert (fetch() == 2 * number + 1).all(), number


def test_large_batches_on_different_streams_do_not_meet(golden: Path) -> None:
    encoder = Encoder(golden / "jina-v2-en", "cuda", cuda_graphs=False)
    texts = [" ".join([TEXT] * (1 + number % 5)) for number in range(200)]
    alone = np.asarray(encoder.encode(texts, batch_tokens=2048))
    for turn in range(10):
        with torch.cuda.stream(torch.cuda.Stream()):
            torch.cuda._sleep(1_000_000 * (turn % 3))
            assert_agree(np.asarray(encoder.encode(texts, batch_tokens=2048)), alone, "bfloat16", f"turn {turn}")


FIRST = """
import sys, threading, warnings
import numpy as np
from longspan import Encoder

warnings.simplefilter("error", RuntimeWarning)
encoders = [Encoder(sys.argv[1], "cuda") for _ in range(4)]
found, start = {}, threading.Barrier(len(encoders))


def run(number):
    start.wait()
    texts = ["a text of some words", "another"] * (1 + 400 * (number % 2))  # as a graph, or plainly
    found[number] = np.asarray(encoders[number].encode(texts))[:2]


threads = [threading.Thread(target=run, args=(number,)) for number in range(len(encoders))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert len(found) == 4, "a thread has failed"
assert np.array_equal(found[0], found[2]) and np.array_equal(found[1], found[3])
print("fine")
"""

FAILING = """
import sys, warnings
import numpy as np
import torch
from longspan import Encoder
from longspan.models.engines.torch_engine import TorchEngine

encoder, before, plain = Encoder(sys.argv[1], "cuda"), torch.cuda.current_stream(), TorchEngine.pool_mean
text = "Late chunking reads all of it first. Then each sentence gets a vector."


def waits(self, hidden, cu_seqlens):
    cu_seqlens[0].item()  # no capture survives it
    return plain(self, hidden, cu_seqlens)


TorchEngine.pool_mean = waits
found = []
for turn in range(3):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found.append(np.asarray(encoder.encode(text)))
    assert any("capturing a CUDA graph of" in str(each.message) for each in told), turn
    assert torch.cuda.current_stream() == before and len(encoder._encoder.engine._graphs) == 0
TorchEngine.pool_mean = plain
warnings.simplefilter("error", RuntimeWarning)
found.append(np.asarray(encoder.encode(text)))  # given up for this size
assert all(np.array_equal(each, found[0]) for each in found)
encoder.encode("short")  # another size is captured, into a pool of its own
assert len(encoder._encoder.engine._graphs) == 1
many = [text * 3] * 800  # far beyond any graph
encoder.encode(many)
reserved = torch.cuda.memory_reserved()
for _ in range(200):
    encoder.encode(many)
grown = torch.cuda.memory_reserved() - reserved
assert grown <= 64 << 20, f"{grown >> 20} MB more than before: deferred frees are never looked at"
print("fine")
"""


def test_captures_that_fail_leave_nothing_behind(golden: Path) -> None:
    """In a process of its own: torch's allocators would be damaged for all that follows."""
    command = [sys.executable, "-c", FAILING, str(golden / "bert-minilm")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0 and done.stdout.endswith("fine\n"), done.stderr[-2000:]


def test_a_graph_outlives_others_of_its_pool() -> None:
    """cuBLAS parts small products along the depth, and the graph remembers where it summed the parts."""
    device = torch.device("cuda", torch.cuda.current_device())
    graphs = Graphs(copies_for(device), CudaRecorder(device), device, capacity=1)
    weight = torch.randn(1024, 4096, device=device, dtype=torch.bfloat16)

    def product(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
        return tensors[0].view(torch.bfloat16).view(16, 1024) @ weight

    def run(key: str, rows: torch.Tensor) -> np.ndarray:
        bits = rows.view(torch.int16).numpy().reshape(-1)
        fetch = graphs.start(key, [bits], product, 16)
        assert fetch is not None
        return fetch()

    rows = torch.randn(16, 1024).to(torch.bfloat16)
    run("first", rows)
    truth = run("second", rows)  # the first one is destroyed
    torch.cuda.empty_cache()
    taken = [torch.full((1 << 22,), torch.nan, device=device) for _ in range(16)]  # whatever was given back
    for _ in range(5):
        np.testing.assert_array_equal(run("second", rows), truth)
    assert len(taken) == 16 and len(graphs) == 1


def test_workspaces_that_grow_on_other_streams(golden: Path) -> None:
    """Two threads on streams of their own hand workspaces to each other, with batches that grow."""
    encoder = Encoder(golden / "jina-v2-en", "cuda", cuda_graphs=False)
    texts = [[" ".join([TEXT] * (1 + number % 5))] * (40 * (1 + turn)) for turn, number in enumerate(range(12))]
    alone = [np.asarray(encoder.encode(each)) for each in texts]
    fresh = Encoder(golden / "jina-v2-en", "cuda", cuda_graphs=False)
    wrong: list[int] = []

    def run(first: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            for place in range(first, len(texts), 2):
                noise = [torch.full((1 << 20,), torch.nan, device="cuda") for _ in range(4)]
                if not np.array_equal(np.asarray(fresh.encode(texts[place])), alone[place]):
                    wrong.append(place)
                del noise

    threads = [threading.Thread(target=run, args=(first,)) for first in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.skipif(not ON_GPU or torch.cuda.device_count() < 2, reason="one CUDA device, or none")
def test_a_second_device(golden: Path) -> None:
    one, other = (Encoder(golden / "jina-v3", device) for device in ("cuda:0", "cuda:1"))
    for texts in ([TEXT], [TEXT] * 100):
        np.testing.assert_array_equal(np.asarray(one.encode(texts)), np.asarray(other.encode(texts)))
    assert torch.cuda.current_device() == 0

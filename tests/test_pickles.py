"""Public classes leave the process: pickled, deep-copied, spawned, forked."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder, MultiVectorEncoder, Reranker, SparseEncoder


@pytest.mark.parametrize(
    "again", [lambda model: pickle.loads(pickle.dumps(model)), copy.deepcopy], ids=["pickle", "copy"]
)
def test_models(again, golden: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    encoder = Encoder(golden / "bert-minilm", dtype="int8", num_threads=1)
    other = again(encoder)
    assert (other.dtype, other.num_threads, other.name) == ("int8", 1, str(golden / "bert-minilm"))
    assert np.array_equal(other.encode(["a"]), encoder.encode(["a"]))
    assert other.max_length == encoder.max_length > 8
    encoder.max_seq_length, encoder.similarity_fn_name = 8, "dot"
    other = again(again(encoder))
    assert other.max_length == 8 and other.similarity_fn_name == "dot"
    text = "one that is longer than that, by some words"
    assert np.array_equal(other.encode(text, on_truncate="ignore"), encoder.encode(text, on_truncate="ignore"))
    colbert = MultiVectorEncoder(golden / "jina-colbert-v2", query_maxlen=9)
    assert again(colbert).query_maxlen == 9
    reranker = Reranker(golden / "rerank-bert/model")
    assert np.array_equal(again(reranker).predict([("a", "b")]), reranker.predict([("a", "b")]))
    sparse = SparseEncoder(golden / "splade-bert/model", max_active_dims=4)
    assert again(sparse).max_active_dims == 4
    monkeypatch.chdir(golden)
    relative = pickle.dumps(Encoder("bert-minilm", token="secret"))
    monkeypatch.chdir(tmp_path)
    assert b"secret" not in relative
    assert len(relative) < 1000
    assert pickle.loads(relative).dim == 64


def test_adapters_come_along(golden: Path) -> None:
    encoder = Encoder(golden / "jina-v5-text-small/model")
    adapter = next((golden / "jina-v5-text-small/model").glob("adapters/*/adapter_config.json")).parent
    encoder.load_adapter("mine", adapter)
    other = pickle.loads(pickle.dumps(encoder))
    assert other.tasks == encoder.tasks
    assert np.array_equal(other.encode(["a"], task="mine"), encoder.encode(["a"], task="mine"))
    assert other.fingerprint == encoder.fingerprint


def test_a_spawned_pool(golden: Path) -> None:
    encoder = Encoder(golden / "bert-minilm")
    with get_context("spawn").Pool(1) as pool:
        [vector] = pool.map(encoder.encode, ["a"])
    assert np.array_equal(vector, encoder.encode("a"))


def test_a_fork_while_a_thread_holds_the_lock() -> None:
    code = """
import os, threading, numpy as np
from longspan import BinaryIndex
index = BinaryIndex(8)
held, done = threading.Event(), threading.Event()
def hold():
    with index._lock:
        held.set()
        done.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    index.add(np.ones((1, 8), np.float32))
    os._exit(len(index))
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
done.set()
thread.join()
print(code)
"""
    run = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, timeout=60, check=True).stdout == "1\n"


@pytest.mark.parametrize("_", range(3))
def test_the_process_ends_while_a_daemon_thread_is_in_a_kernel(_: int) -> None:
    code = """
import threading, time, numpy as np
from longspan import ops
x = np.ones((256, 1024), np.float32)
packed = ops.pack_linear([np.ones((2048, 1024), np.float32)])
codes = np.zeros((300_000, 32), np.uint8)
def work():
    while True:
        ops.linear(x, packed)
def search():
    while True:
        ops.hamming_topk(codes[:4], codes, 10)
for run in (work, search, work):
    threading.Thread(target=run, daemon=True).start()
time.sleep(0.3)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")

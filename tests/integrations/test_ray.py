"""Ray Data: Parquet in and out, one model an actor, an actor that dies; on a local Ray."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder
from longspan.integrations.ray import EncodeBatches

TEXTS = [f"text number {i}, " + "with more words " * (i % 11) for i in range(300)]


@pytest.fixture(scope="module")
def folder(golden: Path) -> Path:
    return golden / "bert-minilm"


@pytest.fixture(scope="module")
def vectors(folder: Path) -> np.ndarray:
    return np.asarray(Encoder(folder).encode_document(TEXTS))


@pytest.fixture(scope="module")
def ray() -> Iterator[object]:
    """A local Ray, and as little beside as can be. Its CPUs are numbers: two for actors, others to read and write."""
    pytest.importorskip("pyarrow", reason="needs longspan[ray]")
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    ray = pytest.importorskip("ray", reason="needs longspan[ray]")
    pytest.importorskip("ray.data", reason="needs longspan[ray]")
    path = os.pathsep.join(os.path.abspath(one) for one in sys.path if one)
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=200_000_000,
        logging_level="ERROR",
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield ray
    ray.shutdown()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Texts and their numbers, in three files."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "texts").mkdir()
    for part in range(3):
        rows = range(part, len(TEXTS), 3)
        table = pyarrow.table({"id": list(rows), "text": [TEXTS[row] for row in rows]})
        parquet.write_table(table, tmp_path / "texts" / f"{part}.parquet")
    return tmp_path / "texts"


def read(folder: Path) -> tuple[list[int], np.ndarray]:
    """Ids and vectors, in the order of the ids, as anyone without Ray reads them."""
    from pyarrow import parquet

    rows = parquet.read_table(folder).sort_by("id").to_pydict()
    return rows["id"], np.array(rows["embedding"], np.float32)


@pytest.mark.filterwarnings("ignore")
def test_parquet_in_and_out_by_the_example(ray: object, source: Path, folder: Path, vectors: np.ndarray) -> None:
    from longspan.integrations.ray_example import main

    target = source.parent / "vectors"
    assert main([str(source), str(target), "--model", str(folder), "--batch-size", "40"]) == 0
    ids, found = read(target)
    assert ids == list(range(len(TEXTS)))
    np.testing.assert_array_equal(found, vectors)


@pytest.mark.filterwarnings("ignore")
def test_an_actor_that_is_killed_loses_nothing(ray: object, source: Path, folder: Path, vectors: np.ndarray) -> None:
    marker = source.parent / "killed"

    class Dies(EncodeBatches):
        """Is killed from outside, once, in the middle of the work."""

        def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            if 150 in batch["id"] and not marker.exists():
                marker.write_text(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
            assert self._encoder.num_threads == 1  # the actor's CPUs
            return super().__call__(batch)

    dataset = ray.data.read_parquet(str(source)).map_batches(
        Dies,
        fn_constructor_kwargs={"model": str(folder)},
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=1,
        batch_size=20,
    )
    dataset.write_parquet(str(source.parent / "vectors"))
    assert marker.exists()
    ids, found = read(source.parent / "vectors")
    assert ids == list(range(len(TEXTS)))
    np.testing.assert_array_equal(found, vectors)


def test_batches_without_ray(folder: Path, vectors: np.ndarray) -> None:
    encode = EncodeBatches(str(folder), num_threads=1)
    batch = {"id": np.arange(4), "text": np.array(TEXTS[:4], object)}
    found = encode(batch)
    assert list(found) == ["id", "text", "embedding"] and found["embedding"].dtype == np.float32
    np.testing.assert_array_equal(found["embedding"], vectors[:4])
    again = pickle.loads(pickle.dumps(encode))
    assert again._encoder.num_threads == 1
    np.testing.assert_array_equal(again(batch)["embedding"], found["embedding"])
    codes = EncodeBatches(folder, output="codes", kind="query", precision="ubinary", truncate_dim=32)(batch)["codes"]
    np.testing.assert_array_equal(codes, Encoder(folder).encode_query(TEXTS[:4], precision="ubinary", truncate_dim=32))
    assert encode({"text": np.array([], object)})["embedding"].shape == (0, 64)


def test_wrong_use(folder: Path) -> None:
    with pytest.raises(ValueError, match="EncodeBatches: kind must be one of document, query, text, got 'passage'"):
        EncodeBatches(folder, kind="passage")
    with pytest.raises(
        ValueError, match="precision 'int8' takes its ranges from all vectors, and a batch is only some"
    ):
        EncodeBatches(folder, precision="int8")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        EncodeBatches("/no/such/folder")
    encode = EncodeBatches(folder)
    with pytest.raises(ValueError, match="no column 'text' in the batch, which has id, body"):
        encode({"id": np.arange(2), "body": np.arange(2)})
    with pytest.raises(TypeError, match=r"a batch must be a dict of arrays \(batch_format='numpy'\), got list"):
        encode([1])
    with pytest.raises(TypeError, match=r"texts\[1\] must be a str, got NoneType"):
        encode({"text": np.array(["a", None], object)})

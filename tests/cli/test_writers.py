"""Outputs of the command line: what the files hold, and that they appear whole or not at all."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from fake_encoder import names
from longspan.cli.console.failures import CommandError
from longspan.cli.embedding.precision import calibration_ranges, ranges_of
from longspan.cli.files.parquet import write_rows
from longspan.cli.files.stage import Block, Stage, npy_header, stage_folder
from longspan.cli.files.writers import check_target, output_format, publish, write_jsonl, write_npy
from longspan.vectors.quantize import quantize_embeddings
from staged_rows import F32, fill, rows

pq = pytest.importorskip("pyarrow.parquet")

DTYPES = ["float32", "float16", "int8", "uint8"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (10**15, 10**6)])
def test_npy_header_is_what_numpy_reads(shape: tuple[int, int], dtype: str) -> None:
    header = npy_header(np.dtype(dtype), *shape)
    assert len(header) == 128
    handle = io.BytesIO(header)
    assert np.lib.format.read_magic(handle) == (1, 0)
    assert np.lib.format.read_array_header_1_0(handle) == (shape, False, np.dtype(dtype))


@pytest.mark.parametrize("count", [0, 1, 20])
@pytest.mark.parametrize("dtype", DTYPES)
def test_npy(tmp_path: Path, count: int, dtype: str) -> None:
    vectors = rows(count, dtype=dtype)
    stage = Stage(stage_folder(tmp_path / "out.npy", is_resumable=False), vectors.dtype, 5)
    fill(stage, vectors)
    publish(stage, tmp_path / "out.npy", "npy")
    stage.discard()
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), vectors, strict=True)
    assert names(tmp_path) == ["out.npy"]


@pytest.mark.parametrize("count", [0, 1, 20, 5000])
def test_a_second_pass_changes_the_precision(tmp_path: Path, count: int) -> None:
    vectors = rows(count)
    stage = Stage(stage_folder(tmp_path / "out.npy", is_resumable=False), F32, 5)
    fill(stage, vectors, block=999)
    ranges = ranges_of(stage.blocks())
    publish(stage, tmp_path / "out.npy", "npy", finish=lambda block: quantize_embeddings(block, "int8", ranges=ranges))
    stage.discard()
    expected = quantize_embeddings(vectors, "int8", calibration_embeddings=vectors if count else None)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected, strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_jsonl_brings_every_value_back(tmp_path: Path, dtype: str) -> None:
    info = np.finfo(dtype) if dtype.startswith("float") else np.iinfo(dtype)
    special = np.array([[info.min, info.max, 0, 1, 3]], dtype)
    vectors = np.concatenate([rows(9, dtype=dtype), special])
    if dtype.startswith("float"):
        tiny = np.array([[info.smallest_subnormal, -info.tiny, info.eps, 1 + info.eps, -0.0]], dtype)
        vectors = np.concatenate([vectors, tiny])
    kept = [json.dumps({"id": i, "text": 'a "é"\n\u2028'}, ensure_ascii=False) for i in range(len(vectors))]
    stage = Stage(stage_folder(tmp_path / "out.jsonl", is_resumable=False), vectors.dtype, 5)
    fill(stage, vectors, kept)
    publish(stage, tmp_path / "out.jsonl", "jsonl")
    stage.discard()
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().split(b"\n")[:-1]]
    assert [list(row) for row in written] == [["index", "id", "text", "embedding"]] * len(vectors)
    assert [(row["index"], row["id"], row["text"]) for row in written] == [
        (i, i, 'a "é"\n\u2028') for i in range(len(vectors))
    ]
    np.testing.assert_array_equal(np.array([row["embedding"] for row in written], dtype), vectors, strict=True)


def test_jsonl_without_kept_fields() -> None:
    handle = io.BytesIO()
    write_jsonl(handle, [(3, np.array([[0.5, -1]], np.float32), ["{}"])])
    assert handle.getvalue() == b'{"index": 3, "embedding": [0.5, -1]}\n'


def test_write_npy_counts_what_it_is_given(tmp_path: Path) -> None:
    vectors = rows(9)
    with open(tmp_path / "out.npy", "wb") as handle:
        write_npy(handle, ((start, vectors[start : start + 4], []) for start in range(0, 9, 4)))
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), vectors, strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 20, 5000])
def test_parquet(tmp_path: Path, dtype: str, count: int) -> None:
    vectors = rows(count, dtype=dtype)
    stage = Stage(stage_folder(tmp_path / "out.parquet", is_resumable=False), vectors.dtype, 5)
    fill(stage, vectors, [json.dumps({"id": i}) for i in range(count)], block=999)
    publish(stage, tmp_path / "out.parquet", "parquet", keep=["id"])
    stage.discard()
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == ["index", "id", "embedding"]
    assert table.schema.field("embedding").type.list_size == 5
    assert table["index"].to_pylist() == list(range(count))
    if count:
        assert table["id"].to_pylist() == list(range(count))
        flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        np.testing.assert_array_equal(flat.reshape(count, 5), vectors, strict=True)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, None, -(2**63)], "int64", [1, None, -(2**63)]),
        ([1, 2.5, 2**60 + 1], "string", ["1", "2.5", str(2**60 + 1)]),
        ([True, False, None], "bool", [True, False, None]),
        (["a", None, "é"], "string", ["a", None, "é"]),
        ([None, None, None], "string", [None, None, None]),
        ([1, "a", None], "string", ["1", '"a"', None]),
        ([True, 1, 0], "string", ["true", "1", "0"]),
        ([2**63, 1, 2], "string", [str(2**63), "1", "2"]),
        ([["x"], {"k": "é"}, "s"], "string", ['["x"]', '{"k": "é"}', '"s"']),
    ],
)
def test_parquet_columns_take_the_narrowest_kind(
    tmp_path: Path, values: list[object], kind: str, expected: list[object]
) -> None:
    kept = [json.dumps({"x": value}) for value in values] + ["{}"]
    vectors = rows(len(kept))
    blocks: list[Block] = [(i, vectors[i : i + 1], kept[i : i + 1]) for i in range(len(kept))]  # kinds differ by block
    write_rows(tmp_path / "out.parquet", blocks, kept, ["x"])
    table = pq.read_table(tmp_path / "out.parquet")
    assert str(table.schema.field("x").type) == kind
    assert table["x"].to_pylist() == [*expected, None]


@pytest.mark.parametrize("to", ["npy", "jsonl", "parquet"])
def test_an_error_while_writing_leaves_nothing_but_what_was_there(tmp_path: Path, to: str) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"before")
    stage = Stage(stage_folder(target, is_resumable=False), F32, 5)
    fill(stage, rows(20))

    def full(vectors: np.ndarray) -> np.ndarray:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        publish(stage, target, to, finish=full, force=True)
    stage.discard()
    assert names(tmp_path) == ["out"]
    assert target.read_bytes() == b"before"


def test_an_output_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out.npy"
    stage = Stage(stage_folder(target, is_resumable=False), F32, 5)
    fill(stage, rows(3))
    target.write_bytes(b"other")
    with pytest.raises(CommandError, match=r"out\.npy appeared meanwhile; give --force to replace it"):
        publish(stage, target, "npy")
    assert target.read_bytes() == b"other"
    publish(stage, target, "npy", force=True)
    stage.discard()
    assert np.load(target).shape == (3, 5)


def test_rows_of_another_shape_are_refused(tmp_path: Path) -> None:
    stage = Stage(stage_folder(tmp_path / "out.npy", is_resumable=False), F32, 5)
    with pytest.raises(ValueError, match=r"rows must be \(2, 5\) float32, got \(2, 4\) float32"):
        stage.append(rows(2, dim=4), ["{}", "{}"])
    with pytest.raises(ValueError, match=r"rows must be \(1, 5\) float32, got \(2, 5\) float32"):
        stage.append(rows(2), ["{}"])
    stage.discard()


# ---- what can be said before any work


@pytest.mark.parametrize(
    ("name", "to", "expected"),
    [
        ("a.npy", None, "npy"), ("a.NDJSON", None, "jsonl"), ("a.pq", None, "parquet"),
        ("a.npy", "jsonl", "jsonl"), ("-", None, "jsonl"), ("-", "jsonl", "jsonl"),
    ],
)  # fmt: skip
def test_output_format(name: str, to: str | None, expected: str) -> None:
    assert output_format(name, to) == expected


def test_output_formats_that_are_refused() -> None:
    with pytest.raises(
        CommandError, match=r"out\.bin: the suffix does not tell the format \(\.npy .*\); say it with --to"
    ):
        output_format("out.bin", None)
    with pytest.raises(CommandError, match=r"standard output takes --to jsonl only, got npy; name a file"):
        output_format("-", "npy")


def test_targets_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "old.npy").write_bytes(b"")
    (tmp_path / "link.npy").symlink_to(tmp_path / "old.npy")
    with pytest.raises(CommandError, match=r"old\.npy exists; give --force to replace it"):
        check_target(str(tmp_path / "old.npy"), force=False)
    with pytest.raises(CommandError, match=r"no/out\.npy: the folder .*/no does not exist"):
        check_target(str(tmp_path / "no" / "out.npy"), force=True)
    with pytest.raises(CommandError, match=r"null is not a plain file, so it cannot be replaced; name another output"):
        check_target(os.devnull, force=True)
    with pytest.raises(CommandError, match=r"is not a plain file"):
        check_target(str(tmp_path), force=True)
    assert check_target(str(tmp_path / "link.npy"), force=True) == (tmp_path / "old.npy").resolve()


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(CommandError, match=r"out\.npy: no permission to write in "):
        check_target(str(tmp_path / "out.npy"), force=False)


def test_calibration_files(tmp_path: Path) -> None:
    path, vectors = tmp_path / "c.npy", rows(10)
    np.save(path, vectors)
    np.testing.assert_array_equal(calibration_ranges(str(path), 5), [vectors.min(0), vectors.max(0)])
    with pytest.raises(CommandError, match=r"c\.npy has vectors of 5 dimensions, but the run's have 4"):
        calibration_ranges(str(path), 4)
    for wrong in (np.zeros((0, 5), np.float32), np.zeros(5, np.float32), np.zeros((2, 5), np.int8)):
        np.save(path, wrong)
        with pytest.raises(CommandError, match=r"c\.npy must hold a float array \(n, 5\) with n at least 1"):
            calibration_ranges(str(path), 5)
    path.write_bytes(b"no array")
    with pytest.raises(CommandError, match=r"--calibration: .*c\.npy is not a \.npy file of vectors: "):
        calibration_ranges(str(path), 5)

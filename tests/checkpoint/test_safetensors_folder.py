"""The tensors of a folder: one file or shards in agreement with their index, dtypes, finiteness, refusal of pickles."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from longspan import CheckpointError
from longspan.checkpoint.safetensors_folder import FINITE_BLOCK, SafetensorsFolder, convert_command, first_non_finite

A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.arange(4, dtype=np.float16)
SHARDS = {"one.safetensors": {"a": A}, "two.safetensors": {"b": B}}


def write_shards(folder: Path, weight_map: object = None, shards: dict[str, dict[str, np.ndarray]] = SHARDS) -> Path:
    """Shards and an index; `weight_map` None is the true one."""
    for name, tensors in shards.items():
        save_file(tensors, folder / name)
    true_map = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    index = {"metadata": {}, "weight_map": true_map if weight_map is None else weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def write_single(folder: Path, **tensors: np.ndarray) -> SafetensorsFolder:
    save_file(tensors, folder / "model.safetensors")
    return SafetensorsFolder.open(folder)


def test_one_file(tmp_path: Path) -> None:
    folder = write_single(tmp_path, a=A, b=B)
    assert sorted(folder.names) == ["a", "b"]
    assert folder.shape("a") == (2, 3)
    assert folder.dtype("b") == "F16"
    np.testing.assert_array_equal(folder.read("a"), A)


def test_shards(tmp_path: Path) -> None:
    folder = SafetensorsFolder.open(write_shards(tmp_path))
    assert folder.names == ("a", "b")
    np.testing.assert_array_equal(folder.read("a"), A)
    np.testing.assert_array_equal(folder.read("b"), B)
    assert folder.file("b").path == tmp_path / "two.safetensors"


def test_one_file_wins_over_an_index(tmp_path: Path) -> None:
    write_shards(tmp_path)
    assert write_single(tmp_path, c=A).names == ("c",)


def test_other_stem(tmp_path: Path) -> None:
    save_file({"lora": A}, tmp_path / "adapter_model.safetensors")
    assert SafetensorsFolder.open(tmp_path, "adapter_model").names == ("lora",)


@pytest.mark.parametrize(
    ("weight_map", "complaint"),
    [
        ({"a": "one.safetensors", "b": "gone.safetensors"}, r"gone\.safetensors is missing, or is not a file"),
        ({"a": "one.safetensors", "b": "../two.safetensors"}, r"'b' must be a path inside the folder, got '\.\./two"),
        ({"a": "/one.safetensors"}, "'a' must be a path inside the folder"),
        ({"a": "one.safetensors", "b": "one.safetensors"}, r"tensor 'b' is not in its shard, one\.safetensors"),
        ({"a": "one.safetensors", "b": "two.safetensors", "c": "two.safetensors"}, "tensor 'c' is not in its shard"),
        ({"a": "two.safetensors", "b": "one.safetensors"}, "tensor 'a' is not in its shard"),
        ({"a": "one.safetensors", "b": 2}, "'b' must be a string, got 2"),
        ({}, "must name the shard of every tensor"),
        ([], "'weight_map' must be a JSON object"),
    ],
)
def test_index_that_disagrees(tmp_path: Path, weight_map: object, complaint: str) -> None:
    write_shards(tmp_path, weight_map)
    with pytest.raises(CheckpointError, match=complaint):
        SafetensorsFolder.open(tmp_path)


def test_tensor_in_two_shards(tmp_path: Path) -> None:
    shards = {"one.safetensors": {"a": A}, "two.safetensors": {"a": A, "b": B}}
    write_shards(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"}, shards)
    with pytest.raises(CheckpointError, match=r"tensor 'a' is in both one\.safetensors and two\.safetensors"):
        SafetensorsFolder.open(tmp_path)


def test_tensor_named_twice_in_the_index(tmp_path: Path) -> None:
    write_shards(tmp_path)
    twins = '{"weight_map": {"a": "one.safetensors", "b": "two.safetensors", "a": "two.safetensors"}}'
    (tmp_path / "model.safetensors.index.json").write_text(twins)
    with pytest.raises(CheckpointError, match=r"index\.json is not valid JSON: the key 'a' appears twice"):
        SafetensorsFolder.open(tmp_path)


def test_tensor_that_the_index_does_not_list(tmp_path: Path) -> None:
    shards = {"one.safetensors": {"a": A, "x": A}, "two.safetensors": {"b": B}}
    write_shards(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"}, shards)
    folder = SafetensorsFolder.open(tmp_path)
    assert sorted(folder.names) == ["a", "b", "x"]  # the model says whether it has a place


def test_pickles_are_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors; pickled weights .* are never read"):
        SafetensorsFolder.open(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (tmp_path / "training_args.bin").write_bytes(b"\x80\x04.")
    way_out = rf"has no model\.safetensors, only pytorch_model\.bin; .*{re.escape(convert_command('model'))}"
    with pytest.raises(CheckpointError, match=way_out):
        SafetensorsFolder.open(tmp_path)


def test_the_way_out_works(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    weight = torch.arange(6.0).reshape(2, 3)
    torch.save({"w": weight, "tied": weight, "turned": weight.T}, tmp_path / "pytorch_model.bin")
    python, _, code = convert_command("model").partition(" -c ")
    assert python == "python"
    subprocess.run([sys.executable, "-c", code.strip('"')], cwd=tmp_path, check=True)
    folder = SafetensorsFolder.open(tmp_path)
    assert sorted(folder.names) == ["tied", "turned", "w"]
    np.testing.assert_array_equal(folder.read("turned"), weight.T.numpy())


def test_read_gives_float32_unless_told(tmp_path: Path) -> None:
    folder = write_single(tmp_path, single=A, half=B, double=A.astype(np.float64))
    for name in folder.names:
        assert folder.read(name).dtype == np.float32
    assert folder.read("half", np.float64).dtype == np.float64
    assert np.shares_memory(folder.read("single"), folder.read("single"))
    np.testing.assert_array_equal(folder.read("half"), B.astype(np.float32))


@pytest.mark.filterwarnings("error")
def test_every_float16_widens_exactly(tmp_path: Path) -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    np.testing.assert_array_equal(write_single(tmp_path, x=every).read("x"), every.astype(np.float64))


@pytest.mark.filterwarnings("error")
def test_value_too_large_for_the_dtype_is_reported(tmp_path: Path) -> None:
    folder = write_single(tmp_path, x=np.array([[1.0, -1e300]]))
    with pytest.raises(CheckpointError, match=r"tensor 'x' holds -inf at flat position 1; .* finite in float32"):
        folder.require_finite("x", folder.read("x"))
    folder.require_finite("x", folder.read("x", np.float64))


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.bool_])
def test_integers_are_no_weights(tmp_path: Path, dtype: type[np.generic]) -> None:
    folder = write_single(tmp_path, x=np.ones(3, dtype))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: tensor 'x' is \w+, which cannot become float32"):
        folder.read("x")
    assert folder.read("x", np.int64).dtype == np.int64


def test_floats_and_wide_integers_become_no_small_integers(tmp_path: Path) -> None:
    folder = write_single(tmp_path, f=A, i=np.ones(3, np.int64))
    for name in folder.names:
        with pytest.raises(
            CheckpointError, match=f"tensor '{name}' is ..., which cannot become int32".replace("...", r"\w+")
        ):
            folder.read(name, np.int32)


def test_unknown_tensor_is_named(tmp_path: Path) -> None:
    folder = write_single(tmp_path, a=A)
    for ask in (folder.read, folder.shape, folder.dtype):
        with pytest.raises(CheckpointError, match="has no tensor 'b'"):
            ask("b")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=str)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("place", [0, FINITE_BLOCK - 1, FINITE_BLOCK, 2 * FINITE_BLOCK + 4])
def test_first_non_finite_is_found(dtype: type[np.generic], bad: float, place: int) -> None:
    array = np.full((2 * FINITE_BLOCK + 5,), np.finfo(dtype).max, dtype)  # large values alone are no offence
    assert first_non_finite(array) is None
    array[place] = bad
    array[-1] = bad
    assert first_non_finite(array) == place


@pytest.mark.parametrize(
    "array", [np.float32(1).reshape(()), np.zeros((0, 3), np.float32), np.ones(3, np.int64)], ids=str
)
def test_first_non_finite_of_odd_arrays(array: np.ndarray) -> None:
    assert first_non_finite(array) is None


def test_non_finite_names_tensor_file_and_place(tmp_path: Path) -> None:
    folder = write_single(tmp_path, w=np.array([[0, 1], [np.nan, 3]], np.float32), fine=A)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: tensor 'w' holds nan at flat position 2"):
        folder.require_finite("w", folder.read("w"))
    folder.require_finite("fine", folder.read("fine"))


@pytest.mark.parametrize("place", [0, FINITE_BLOCK - 1, FINITE_BLOCK, 2 * FINITE_BLOCK + 5])
@pytest.mark.parametrize("bits, shown", [(0x7F80, "inf"), (0xFF80, "-inf"), (0x7FC1, "nan")])
def test_bits_that_are_no_number(tmp_path: Path, bits: int, shown: str, place: int) -> None:
    values = np.full(2 * FINITE_BLOCK + 6, 0x7F7F, np.uint16)  # the largest number
    values[-2:] = 0xFF7F, 0x0001
    header = {"x": {"dtype": "BF16", "shape": [len(values)], "data_offsets": [0, values.nbytes]}}

    def folder() -> SafetensorsFolder:
        text = json.dumps(header).encode()
        path = tmp_path / "model.safetensors"
        path.write_bytes(len(text).to_bytes(8, "little") + text + values.tobytes())
        return SafetensorsFolder.open(tmp_path)

    sound = folder()
    sound.require_finite("x", sound.bits("x"))
    values[place] = bits
    with pytest.raises(CheckpointError, match=f"tensor 'x' holds {shown} at flat position {place}; .* in bfloat16"):
        (wrong := folder()).require_finite("x", wrong.bits("x"))


def test_close_lets_go_of_every_shard(tmp_path: Path) -> None:
    folder = SafetensorsFolder.open(write_shards(tmp_path))
    array = folder.read("a")
    folder.close()
    np.testing.assert_array_equal(array, A)
    for name in folder.names:
        with pytest.raises(ValueError, match="is closed"):
            folder.read(name)


# names that other tools give


@pytest.mark.parametrize("name", ["model-00001-of-00001.safetensors", "model.fp16.safetensors", "model_v2.safetensors"])
def test_the_only_file_has_another_name(name: str, tmp_path: Path) -> None:
    save_file({"a": np.ones(3, np.float32)}, tmp_path / name)
    assert SafetensorsFolder.open(tmp_path).names == ("a",)


def test_shards_without_an_index(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        save_file({f"t{number}": np.ones(3, np.float32)}, tmp_path / f"model-{number:05}-of-00003.safetensors")
    assert sorted(SafetensorsFolder.open(tmp_path).names) == ["t1", "t2", "t3"]
    save_file({"t1": np.ones(3, np.float32)}, tmp_path / "model-00003-of-00003.safetensors")
    with pytest.raises(CheckpointError, match="hold some tensors twice"):
        SafetensorsFolder.open(tmp_path)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        SafetensorsFolder.open(tmp_path)


def test_no_choice_is_made_between_two(tmp_path: Path) -> None:
    for name in ("model.fp16.safetensors", "model.bf16.safetensors"):
        save_file({"a": np.ones(3, np.float32)}, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        SafetensorsFolder.open(tmp_path)

"""The safetensors reader: agrees with the library on sound files, and refuses every damaged one in a sentence."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from longspan import CheckpointError
from longspan.checkpoint.safetensors_file import MAX_DIMS, STORED, SafetensorsFile
from longspan.checkpoint.safetensors_folder import SafetensorsFolder

LIBRARY_DTYPES = {  # the library's numpy door, whatever numpy calls them
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
}


def raw_file(path: Path, header: object, data: bytes = b"", *, length: int | None = None) -> Path:
    """A file of this header, a JSON value or the bytes themselves, and this data; `length` lies about the header's."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def one_tensor(path: Path, data_bytes: int = 24, **fields: object) -> Path:
    """A sound F32 (2, 3) tensor "x", but for the fields given."""
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} | fields
    return raw_file(path, {"x": entry}, bytes(data_bytes))


def read_all(path: Path) -> dict[str, np.ndarray]:
    file = SafetensorsFile(path)
    return {name: file.read(name) for name in file.names}


def random_bytes(shape: tuple[int, ...], dtype: type[np.generic], seed: int) -> np.ndarray:
    """Any bit pattern at all, NaNs and subnormals among them."""
    rng = np.random.default_rng(seed)
    if dtype is np.bool_:
        return np.asarray(rng.random(shape) < 0.5)
    return rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8).view(dtype)[..., 0]


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 0, 3), (0,), (1, 2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("dtype", LIBRARY_DTYPES)
def test_reads_what_the_library_wrote(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    tensors = {name: random_bytes(shape, LIBRARY_DTYPES[dtype], seed) for seed, name in enumerate(("a", "b.weight"))}
    save_file(tensors, tmp_path / "m.safetensors", metadata={"format": "np"})
    file = SafetensorsFile(tmp_path / "m.safetensors")
    assert sorted(file.names) == ["a", "b.weight"]
    for name, tensor in tensors.items():
        array = file.read(name)
        assert (file.dtype(name), file.shape(name)) == (dtype, shape)
        assert array.shape == shape
        assert array.dtype == tensor.dtype
        assert array.tobytes() == tensor.tobytes()


def test_every_dtype_is_held_against_the_library() -> None:
    assert set(STORED) == {*LIBRARY_DTYPES, "BF16"}


def test_bfloat16_widens_exactly(tmp_path: Path) -> None:
    every = np.arange(1 << 16, dtype=np.uint16)  # all 65536 bfloat16s
    header = {"x": {"dtype": "BF16", "shape": [256, 256], "data_offsets": [0, every.nbytes]}}
    array = read_all(raw_file(tmp_path / "m.safetensors", header, every.tobytes()))["x"]
    assert array.dtype == np.float32
    assert array.shape == (256, 256)
    np.testing.assert_array_equal(array.reshape(-1).view(np.uint32), every.astype(np.uint32) << 16)
    assert array[0x3F, 0x80] == 1.0
    assert array[0xC0, 0x00] == -2.0


def test_bits_of_bfloat16(tmp_path: Path) -> None:
    every = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    header = {"x": {"dtype": "BF16", "shape": [256, 256], "data_offsets": [0, every.nbytes]}}
    file = SafetensorsFile(raw_file(tmp_path / "m.safetensors", header, every.tobytes()))
    bits = file.bits("x")
    assert bits.dtype == np.uint16 and not bits.flags.writeable
    np.testing.assert_array_equal(bits, every)
    file.release("x")  # and the view reads it again
    file.close()
    np.testing.assert_array_equal(bits, every)
    other = SafetensorsFile(one_tensor(tmp_path / "other.safetensors"))
    with pytest.raises(ValueError, match="tensor 'x' must be BF16 to have its bits, got F32"):
        other.bits("x")


def resident(path: Path) -> int:
    """Bytes of the file's maps that this process holds."""
    held, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            held += int(line.split()[1]) * 1024
    return held


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is held")
def test_a_tensor_is_not_held_twice(tmp_path: Path) -> None:
    size = 1 << 20
    entries = {
        f"x{at}": {"dtype": "BF16", "shape": [size], "data_offsets": [2 * at * size, 2 * (at + 1) * size]}
        for at in range(4)
    }
    path = raw_file(tmp_path / "model.safetensors", entries, bytes(8 * size))
    folder = SafetensorsFolder.open(tmp_path)
    kept = [folder.read(name) for name in folder.names]
    assert resident(path) < size  # of 8 MB, all of which were read
    assert folder.bits("x1").sum() == 0 and resident(path) >= size
    folder.file("x1").release("x1")
    assert resident(path) < size
    assert len(kept) == 4


def test_bfloat16_agrees_with_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    tensor = torch.randn(7, 33, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    save_torch({"x": tensor, "scalar": tensor[0, 0].clone()}, tmp_path / "m.safetensors")
    arrays = read_all(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(arrays["x"], tensor.float().numpy())
    assert arrays["scalar"] == tensor[0, 0].float().item()


def test_views_are_neither_copied_nor_writable(tmp_path: Path) -> None:
    save_file({"x": np.ones((64, 64), np.float32)}, tmp_path / "m.safetensors")
    file = SafetensorsFile(tmp_path / "m.safetensors")
    first, second = file.read("x"), file.read("x")
    assert np.shares_memory(first, second)
    assert not first.flags.writeable


def test_unaligned_tensors_come_aligned(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32)
    header = {
        "odd": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "x": {"dtype": "F32", "shape": [6], "data_offsets": [1, 25]},
    }
    arrays = read_all(raw_file(tmp_path / "m.safetensors", header, b"\7" + values.tobytes()))
    assert arrays["odd"] == 7
    assert arrays["x"].flags.aligned
    np.testing.assert_array_equal(arrays["x"], values)


def test_bool_of_any_byte_is_a_bool(tmp_path: Path) -> None:
    header = {"x": {"dtype": "BOOL", "shape": [3], "data_offsets": [0, 3]}}
    array = read_all(raw_file(tmp_path / "m.safetensors", header, b"\0\1\2"))["x"]
    assert array.view(np.uint8).tolist() == [0, 1, 1]


@pytest.mark.parametrize("header", [{}, {"__metadata__": {"format": "pt"}}], ids=str)
def test_a_file_may_hold_no_tensor(tmp_path: Path, header: dict[str, object]) -> None:
    assert SafetensorsFile(raw_file(tmp_path / "m.safetensors", header)).names == ()


def test_a_link_is_followed(tmp_path: Path) -> None:
    blob = one_tensor(tmp_path / "blob")
    (tmp_path / "m.safetensors").symlink_to(blob)
    assert SafetensorsFile(tmp_path / "m.safetensors").read("x").shape == (2, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's maps from /proc")
def test_the_map_goes_with_its_last_array(tmp_path: Path) -> None:
    def is_mapped() -> bool:
        return str(path) in Path("/proc/self/maps").read_text()

    path = tmp_path / "m.safetensors"
    save_file({"x": np.zeros((2, 3), np.float32)}, path)
    file = SafetensorsFile(path)
    array = file.read("x")
    file.close()
    assert is_mapped()  # the array still reads from it
    assert array.sum() == 0
    del array
    assert not is_mapped()
    with pytest.raises(ValueError, match=r"m\.safetensors is closed: read its tensors before close\(\)"):
        file.read("x")
    assert file.shape("x") == (2, 3)


def test_unknown_tensor_is_named(tmp_path: Path) -> None:
    file = SafetensorsFile(one_tensor(tmp_path / "m.safetensors"))
    for ask in (file.read, file.shape, file.dtype):
        with pytest.raises(CheckpointError, match=r"m\.safetensors has no tensor 'y'"):
            ask("y")


def test_no_file(tmp_path: Path) -> None:
    (tmp_path / "d.safetensors").mkdir()
    os.mkfifo(tmp_path / "p.safetensors")
    for name in ("absent", "d", "p"):
        with pytest.raises(CheckpointError, match=rf"{name}\.safetensors is missing, or is not a file"):
            SafetensorsFile(tmp_path / f"{name}.safetensors")


@pytest.mark.parametrize("content", [b"", b"\1", b"1234567"], ids=repr)
def test_too_short_for_a_length(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"m\.safetensors is no safetensors file: it is shorter than 8 bytes"):
        SafetensorsFile(tmp_path / "m.safetensors")


@pytest.mark.parametrize("length", [3, 100_000_001, 2**63, 2**64 - 1])
def test_header_length_that_lies(tmp_path: Path, length: int) -> None:
    path = raw_file(tmp_path / "m.safetensors", {}, length=length)
    with pytest.raises(
        CheckpointError, match=rf"truncated or no safetensors file: its header claims {length} bytes, 2 f"
    ):
        SafetensorsFile(path)


def test_header_length_over_the_formats_limit(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes((100_000_001).to_bytes(8, "little") + b"{")
    os.truncate(path, 100_000_100)  # long enough for what it claims; sparse, so it costs nothing
    with pytest.raises(CheckpointError, match=r"its header claims 100000001 bytes, .* 100000000 are allowed"):
        SafetensorsFile(path)


def test_header_length_that_ends_within_the_header(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the header is not valid JSON"):
        SafetensorsFile(raw_file(tmp_path / "m.safetensors", {"__metadata__": {}}, length=5))


def test_git_lfs_pointer(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_text("version https://git-lfs.example/spec/v1\noid sha256:00\nsize 3\n")
    with pytest.raises(CheckpointError, match="is a Git LFS pointer, not the weights; fetch them with `git lfs pull`"):
        SafetensorsFile(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        (b"[1]", "its header must begin with '{', got b'\\[1\\]'"),
        (b' {"a": 1}', "its header must begin with '{'"),
        (b"", "its header must begin with '{', got b''"),
        (b"{]", "the header is not valid JSON"),
        (b'{"\xff": 1}', "the header is not UTF-8 text"),
        (b'{"a":' * 100_000, "the header is not usable JSON: it nests too deeply"),
        (b'{"x": {}, "x": {}}', "the header is not valid JSON: the key 'x' appears twice"),
        (b'{"x": 7}', "tensor 'x' must be a JSON object, got 7"),
        (b'{"x": {}}', "tensor 'x': 'dtype' is missing"),
    ],
)
def test_header_that_is_no_header(tmp_path: Path, header: bytes, complaint: str) -> None:
    with pytest.raises(CheckpointError, match=complaint):
        SafetensorsFile(raw_file(tmp_path / "m.safetensors", header))


@pytest.mark.parametrize("dtype", ["f32", "float32", "F8_E4M3", "", 32, ["F32"]])
def test_wrong_dtype(tmp_path: Path, dtype: object) -> None:
    with pytest.raises(CheckpointError, match=r"m\.safetensors: tensor 'x': 'dtype' must be "):
        SafetensorsFile(one_tensor(tmp_path / "m.safetensors", dtype=dtype))


@pytest.mark.parametrize("shape", [[-2, -3], [2.0, 3], [True, 6], ["2", 3], [None], [[6]]], ids=str)
def test_shape_of_no_naturals(tmp_path: Path, shape: object) -> None:
    with pytest.raises(CheckpointError, match="tensor 'x': 'shape' must hold integers of 0 and above"):
        SafetensorsFile(one_tensor(tmp_path / "m.safetensors", shape=shape))


@pytest.mark.parametrize("shape", [[2**63], [2**62, 0], [2**40, 2**40, 0], [1] * (MAX_DIMS + 1)], ids=str)
def test_shape_of_no_array(tmp_path: Path, shape: list[int]) -> None:
    with pytest.raises(CheckpointError, match="tensor 'x': 'shape' must be one that an array can have"):
        SafetensorsFile(one_tensor(tmp_path / "m.safetensors", shape=shape))


def test_largest_shape_without_values(tmp_path: Path) -> None:
    entry = {"dtype": "U8", "shape": [2**63 - 1, 0], "data_offsets": [0, 0]}
    assert read_all(raw_file(tmp_path / "m.safetensors", {"x": entry}))["x"].shape == (2**63 - 1, 0)


@pytest.mark.parametrize("shape", [[2, 4], [5], [], [2, 0]], ids=str)
def test_shape_that_does_not_fit_its_bytes(tmp_path: Path, shape: list[int]) -> None:
    with pytest.raises(
        CheckpointError, match=r"tensor 'x': F32 of shape .* takes \d+ bytes, but 'data_offsets' span 24"
    ):
        SafetensorsFile(one_tensor(tmp_path / "m.safetensors", shape=shape))


@pytest.mark.parametrize("offsets", [[24, 0], [0], [0, 24, 48], []], ids=str)
def test_offsets_of_no_range(tmp_path: Path, offsets: list[int]) -> None:
    with pytest.raises(CheckpointError, match=r"tensor 'x': 'data_offsets' must be \[begin, end\]"):
        SafetensorsFile(one_tensor(tmp_path / "m.safetensors", data_offsets=offsets))


@pytest.mark.parametrize("offsets", [[-24, 0], [0, 24.0], [False, 24]], ids=str)
def test_offsets_of_no_naturals(tmp_path: Path, offsets: list[float]) -> None:
    with pytest.raises(CheckpointError, match="tensor 'x': 'data_offsets' must hold integers of 0 and above"):
        SafetensorsFile(one_tensor(tmp_path / "m.safetensors", data_offsets=offsets))


@pytest.mark.parametrize("begin", [4, 24, 2**64 - 24, 2**64], ids=str)
def test_offsets_out_of_range(tmp_path: Path, begin: int) -> None:
    path = one_tensor(tmp_path / "m.safetensors", data_offsets=[begin, begin + 24])
    with pytest.raises(CheckpointError, match=f"tensor 'x' begins at byte {begin}, the one before it ends at 0"):
        SafetensorsFile(path)


def test_offsets_that_overlap(tmp_path: Path) -> None:
    header = {
        "a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
        "b": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]},
    }
    with pytest.raises(CheckpointError, match=r"tensor 'b' begins at byte 2, the one before it ends at 4.* overlap"):
        SafetensorsFile(raw_file(tmp_path / "m.safetensors", header, bytes(6)))


@pytest.mark.parametrize("data_bytes", [0, 23, 25, 48])
def test_data_of_another_length_than_the_header_says(tmp_path: Path, data_bytes: int) -> None:
    path = one_tensor(tmp_path / "m.safetensors", data_bytes=data_bytes)
    complaint = rf"m\.safetensors is truncated or overlong: its tensors take 24 bytes, but {data_bytes} follow"
    with pytest.raises(CheckpointError, match=complaint):
        SafetensorsFile(path)

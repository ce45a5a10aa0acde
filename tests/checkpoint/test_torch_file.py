""".pt files: taken where they hold tensors alone, refused else; nothing in one is ever run."""

from __future__ import annotations

import builtins
import io
import json
import os
import pickle
import pickletools
import struct
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import inputs
from longspan.checkpoint.torch_file import MAX_ENTRIES, MAX_PICKLE_BYTES, read_torch_file
from longspan.errors import CheckpointError

NAMES = ("weight", "bias")
MUTATIONS = int(os.environ.get("LONGSPAN_TEST_MUTATIONS", "400"))  # of files, and again of pickles


@pytest.fixture(scope="module")
def files(golden: Path) -> Path:
    """Files that torch wrote, and what a reader must do with each."""
    return golden / "bge-m3" / "pt"


@pytest.fixture(autouse=True)
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What these pickles would call, and pickle itself, fails the test."""

    def ran(*args: object, **kwargs: object) -> None:
        pytest.fail("the pickle ran code")

    for name in ("load", "loads", "Unpickler", "_Unpickler", "_loads"):
        monkeypatch.setattr(pickle, name, ran)
    monkeypatch.setattr(builtins, "print", ran)
    monkeypatch.setattr(os, "system", ran)


def verdicts(golden: Path) -> dict[str, str]:
    header = json.loads((golden / "bge-m3" / "cases.json").read_text())["header"]
    return dict(header["pt"])


def test_each_golden_file(golden: Path, files: Path) -> None:
    told = verdicts(golden)
    assert set(told) == {path.name for path in files.iterdir()}
    for name, verdict in told.items():
        if verdict.startswith("take"):
            assert "weight" in read_torch_file(files / name, NAMES), name
        else:
            with pytest.raises(CheckpointError, match="is not read: .*; if you trust where it is from, convert it"):
                read_torch_file(files / name, NAMES)


def test_values(files: Path, golden: Path) -> None:
    fine = read_torch_file(files / "fine.pt", NAMES)
    np.testing.assert_array_equal(fine["weight"], np.arange(12).reshape(3, 4))
    np.testing.assert_array_equal(fine["bias"], np.ones(3))
    assert {array.dtype for array in fine.values()} == {np.dtype(np.float32)}
    turned = read_torch_file(files / "transposed.pt", NAMES)["weight"]
    np.testing.assert_array_equal(turned, np.add.outer(np.arange(6), 6 * np.arange(4)))
    views = read_torch_file(files / "views.pt", NAMES)
    assert (views["weight"].reshape(-1)[0], views["bias"].reshape(-1)[0]) == (6, 12)
    head = read_torch_file(golden / "bge-m3" / "model" / "colbert_linear.pt", NAMES)
    assert head["weight"].shape == (64, 64) and np.isfinite(head["weight"]).all()


@pytest.mark.parametrize(
    "name, message",
    [
        ("calls.pt", "imports '.*print', which may run code"),
        ("getattr.pt", "imports '.*getattr', which may run code"),
        ("legacy.pt", r"no zip file as torch writes since 1\.6"),
        ("names.pt", r"must hold weight, bias, got \['bias', 'extra'.*\]|must hold weight, bias, got .*extra"),
        ("short.pt", "must have .* bytes, got|does not lie in its"),
        ("gone.pt", "the entry 'data/.' is missing"),
        ("big-endian.pt", "not little-endian"),
    ],
)
def test_what_is_said(files: Path, name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_torch_file(files / name, NAMES)


STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ"


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def tensor(offset: int = 0, shape: tuple[int, ...] = (2, 3), strides: tuple[int, ...] = (3, 1)) -> bytes:
    """The instructions of one tensor."""
    sizes = (b"(" + b"".join(map(number, part)) + b"t" for part in (shape, strides))
    middle = STORAGE + number(offset) + b"".join(sizes)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + middle + b"\x89ccollections\nOrderedDict\n)RtR"


def a_dict(**tensors: bytes) -> bytes:
    """A whole pickle: a dict of these."""
    body = b"".join(b"X" + struct.pack("<I", len(name)) + name.encode() + value for name, value in tensors.items())
    return b"\x80\x02}(" + body + b"u."


def write(path: Path, data_pkl: bytes, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("head/data.pkl", data_pkl)
        for name, data in {"data_0": np.arange(6, dtype="<f4").tobytes(), **entries}.items():
            archive.writestr(f"head/{name.replace('_', '/')}", data)
    return path


def test_a_file_of_our_own(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pt", a_dict(weight=tensor()))
    np.testing.assert_array_equal(read_torch_file(path, ["weight"])["weight"], np.arange(6).reshape(2, 3))


@pytest.mark.parametrize(
    "offset, shape, strides, message",
    [
        (1, (2, 3), (3, 1), "does not lie in its 6 numbers"),
        (0, (2, 3), (4, 1), "does not lie in its 6 numbers"),
        (0, (7, 1), (0, 0), "repeats its 6 numbers"),
        (0, (0, 3), (3, 1), "does not lie in its 6 numbers"),
        (-1, (2, 3), (3, 1), "something else than numbers"),
        (0, (-2, 3), (3, 1), "something else than numbers"),
        (0, (2, 3), (-3, 1), "something else than numbers"),
        (0, (2, 3), (3,), "sizes and strides differ"),
        (0, (2**31 - 1, 2**31 - 1), (0, 0), "something else than numbers"),
        (0, (1,) * 9, (1,) * 9, "sizes and strides differ in number"),
    ],
)
def test_views_that_lie(
    tmp_path: Path, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], message: str
) -> None:
    path = write(tmp_path / "a.pt", a_dict(weight=tensor(offset, shape, strides)))
    with pytest.raises(CheckpointError, match=message):
        read_torch_file(path, ["weight"])


# Each would run `print` in pickle.loads, or build an object, or fill the memory.
HOSTILE = {
    "GLOBAL and REDUCE": (b"cbuiltins\nprint\n(X\x01\x00\x00\x00atR.", "imports 'builtins.print'"),
    "STACK_GLOBAL": (b"\x80\x04\x8c\x08builtins\x8c\x05print\x93)R.", "imports 'builtins.print'"),
    "os.system": (b"cos\nsystem\n(X\x01\x00\x00\x00atR.", "imports 'os.system'"),
    "torch's own loader": (b"ctorch.storage\n_load_from_bytes\n(X\x01\x00\x00\x00atR.", "imports 'torch.storag"),
    "INST": (b"(X\x01\x00\x00\x00aibuiltins\nprint\n.", "uses the instruction INST"),
    "OBJ": (b"(cbuiltins\nprint\nX\x01\x00\x00\x00ao.", "imports 'builtins.print'"),
    "OBJ of a known name": (b"(ccollections\nOrderedDict\no.", "uses the instruction OBJ"),
    "NEWOBJ": (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "uses the instruction NEWOBJ"),
    "EXT1": (b"\x80\x02\x82\x01.", "uses the instruction EXT1"),
    "PERSID": (b"Pid\n.", "uses the instruction PERSID"),
    "a storage that is a text": (b"X\x01\x00\x00\x00aQ.", "names a storage in an unknown way"),
    "BUILD with a state": (b"}}(X\x01\x00\x00\x00aK\x01ub.", "builds an object"),
    "BUILD of a tuple": (b")}b.", "builds an object"),
    "APPEND": (b"]K\x01a.", "uses the instruction EMPTY_LIST"),
    "an OrderedDict of something": (b"ccollections\nOrderedDict\n(K\x01tR.", "OrderedDict in an unknown way"),
    "a call of a text": (b"X\x01\x00\x00\x00a)R.", "calls what is no name"),
    "a dict of numbers": (b"}X\x01\x00\x00\x00aK\x01s.", "a dict of tensors and nothing else"),
    "a key that is a number": (b"}K\x01K\x01s.", "a key that is no text"),
    "an empty stack": (b"R.", "its pickle is damaged"),
    "no end": (b"}", "its pickle is damaged"),
    "an unknown byte": (b"\xff.", "its pickle is damaged"),
    "a size beyond the file": (b"X\xff\xff\xff\xffa.", "its pickle is damaged"),
    "an unset memo": (b"h\x07.", "its pickle is damaged"),
    "nothing": (b".", "leaves more than one value"),
    "nested tuples": (b")" + b"\x85" * 500_000 + b".", "a dict of tensors"),
    "tuples that double, as a name": (b")" + b"q\x00h\x00\x86" * 60 + b"\x8c\x01a\x93.", "imports what is no name"),
    "a number of 255 bytes": (b"\x8a\xff" + b"\x01" * 255 + b".", "a dict of tensors"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles(tmp_path: Path, name: str) -> None:
    program, message = HOSTILE[name]
    with pytest.raises(CheckpointError, match=message):
        read_torch_file(write(tmp_path / "a.pt", program), NAMES)


def test_huge_and_damaged_zips(tmp_path: Path) -> None:
    good = a_dict(weight=tensor())
    cases: dict[str, tuple[bytes | dict[str, bytes], str]] = {
        "a pickle of 2 MB": ({"head/data.pkl": b")" + b"0)" * MAX_PICKLE_BYTES + b"."}, "must have 1 to 1048576 bytes"),
        "two pickles": ({"head/data.pkl": good, "other/data.pkl": good}, "must have one data.pkl"),
        "none": ({"head/data": good}, "must have one data.pkl"),
        "many entries": ({f"head/{n}": b"" for n in range(MAX_ENTRIES + 1)}, f"it has {MAX_ENTRIES + 1} entries"),
        "a storage too long": ({"head/data.pkl": good, "head/data/0": bytes(28)}, "must have 24 to 24 bytes, got 28"),
        "an empty file": (b"", "no zip file"),
        "no zip": (b"PK\x03\x04" + bytes(100), "no zip file"),
    }
    for content, message in cases.values():
        path = tmp_path / "a.pt"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            with zipfile.ZipFile(path, "w") as archive:
                for entry, data in content.items():
                    archive.writestr(entry, data)
        with pytest.raises(CheckpointError, match=message):
            read_torch_file(path, ["weight"])
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("head/data.pkl", bytes(1 << 24))
    with pytest.raises(CheckpointError, match="is compressed or encrypted"):
        read_torch_file(bomb, NAMES)
    with pytest.raises(CheckpointError, match="is missing, or is not a file"):
        read_torch_file(tmp_path, NAMES)
    spoilt = bytearray(write(tmp_path / "a.pt", good).read_bytes())
    spoilt[spoilt.rindex(np.float32(5).tobytes())] ^= 1  # CRC-32
    (tmp_path / "a.pt").write_bytes(spoilt)
    with pytest.raises(CheckpointError, match="no zip file|Bad CRC"):
        read_torch_file(tmp_path / "a.pt", ["weight"])


def test_not_finite(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pt", a_dict(weight=tensor()), data_0=np.array([1, 2, np.nan, 4, 5, 6], "<f4").tobytes())
    with pytest.raises(CheckpointError, match="tensor 'weight' holds nan at flat position 2"):
        read_torch_file(path, ["weight"])


def test_fuzzed_files(files: Path, tmp_path: Path) -> None:
    """Bits, bytes, cuts and holes anywhere in the file: tensors of the right names, or a CheckpointError."""
    rng, path = inputs.rng(5), tmp_path / "a.pt"
    whole = (files / "fine.pt").read_bytes()
    for _ in range(MUTATIONS):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            at, kind = int(rng.integers(len(data))), int(rng.integers(4))
            if kind == 0:
                data[at] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                data[at : at + 4] = rng.bytes(4)
            elif kind == 2:
                del data[at : at + int(rng.integers(1, 9))]
            else:
                data[at:at] = rng.bytes(int(rng.integers(1, 9)))
        path.write_bytes(data)
        _take_or_refuse(path)


def test_fuzzed_pickles(files: Path, tmp_path: Path) -> None:
    """Programs of the right instructions in any order, and torch's own with bytes changed, in whole zips."""
    rng, path = inputs.rng(6), tmp_path / "a.pt"
    with zipfile.ZipFile(files / "fine.pt") as archive:
        own = archive.read("fine/data.pkl")
    pieces = [*_instructions(own), b"cos\nsystem\n", *(bytes([code]) for code in b"\x93\x81bQR0(tsuo")]
    for attempt in range(MUTATIONS):
        if attempt % 2:
            program = bytearray(own)
            for _ in range(int(rng.integers(1, 5))):
                program[int(rng.integers(len(program)))] = int(rng.integers(256))
        else:
            program = bytearray(b"\x80\x02")
            for piece in rng.integers(len(pieces), size=int(rng.integers(1, 40))):
                program += pieces[piece]
            program += b"."
        _take_or_refuse(write(path, bytes(program)))


def _instructions(program: bytes) -> list[bytes]:
    places = [place for _, _, place in pickletools.genops(io.BytesIO(program)) if place is not None]
    return [program[first:end] for first, end in pairwise(places)]


def _take_or_refuse(path: Path) -> None:
    loaded = set(sys.modules)
    try:
        tensors = read_torch_file(path, NAMES)
    except CheckpointError as error:
        if len(str(error)) > 1000:
            pytest.fail("a message without end")
    else:
        assert set(tensors) <= set(NAMES) and all(np.isfinite(array).all() for array in tensors.values())
    assert {name for name in set(sys.modules) - loaded if name.startswith("torch")} == set()

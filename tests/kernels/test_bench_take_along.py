"""What a rented GPU need not build: used where it fits, left out where it does not, or is damaged."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from bench.gpu import take_along
from bench.gpu.take_along import make, suffix, unpack


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with C++ sources and a built module."""
    root = tmp_path / "tree"
    for name, text in (("CMakeLists.txt", "x"), ("csrc/a.cpp", "int a;"), ("python/longspan/__init__.py", "")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name in ("_core", "_cuda"):
        (root / "python" / "longspan" / f"{name}{suffix()}").write_bytes(name.encode() * 1000)
    (root / "python" / "longspan" / "_core.cpython-39-other.so").write_text("another Python's")
    return root


@pytest.fixture
def pack(tree: Path, tmp_path: Path) -> Path:
    """Of it, with a kernel in Triton's cache and a peer's wheel."""
    cache, wheels = tmp_path / "cache", tmp_path / "wheels"
    for key in ("KERNEL", "OTHER"):
        (cache / key).mkdir(parents=True)
        files = {"norm.json": b"{}", "norm.cubin": key.encode() * 500, "norm.ttir": b"what it was made from"}
        for name, body in files.items():
            (cache / key / name).write_bytes(body)
        group = {name: f"/where/it/was/made/{key}/{name}" for name in files}
        (cache / key / "__grp__norm.json").write_text(json.dumps({"child_paths": group}))
    (cache / "LAUNCH").mkdir()
    (cache / "LAUNCH" / f"launcher{suffix()}").write_bytes(b"elf")
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "peer-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("peer/__init__.py", "there = True\n")
    file = tmp_path / "pack.zip"
    assert make(file, cache, wheels, tree)["kernels"] == 2
    return file


def fresh(tree: Path, tmp_path: Path) -> Path:
    """The same checkout elsewhere, with nothing built."""
    root = tmp_path / "fresh"
    for name in ("CMakeLists.txt", "csrc/a.cpp"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text((tree / name).read_text())
    return root


def test_what_fits_is_used(pack: Path, tree: Path, tmp_path: Path) -> None:
    root = fresh(tree, tmp_path)
    for _ in range(2):  # the second finds it there
        taken = unpack(pack, tmp_path / "to", root)
        assert taken.notes == [] and taken.modules == [f"_core{suffix()}", f"_cuda{suffix()}"] and taken.kernels == 2
    assert (root / "python" / "longspan" / f"_core{suffix()}").read_bytes() == b"_core" * 1000
    cache = taken.cache
    assert cache is not None and (cache / "LAUNCH" / f"launcher{suffix()}").exists()
    paths = json.loads((cache / "KERNEL" / "__grp__norm.json").read_text())["child_paths"]
    assert paths == {name: str(cache / "KERNEL" / name) for name in ("norm.json", "norm.cubin")}
    assert all(Path(path).exists() for path in paths.values()), "Triton asks whether they are there"
    [peer] = taken.paths
    assert (peer / "peer" / "__init__.py").read_text() == "there = True\n"


def test_modules_of_other_sources_are_left(pack: Path, tree: Path, tmp_path: Path) -> None:
    root = fresh(tree, tmp_path)
    (root / "csrc" / "a.cpp").write_text("int b;")
    taken = unpack(pack, tmp_path / "to", root)
    assert taken.modules == [] and "other C++ sources" in taken.notes[0] and taken.kernels == 2


def test_another_python_or_triton(pack: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fresh(tree, tmp_path)
    monkeypatch.setattr(take_along, "suffix", lambda: ".cpython-399.so")
    monkeypatch.setattr(take_along, "triton_version", lambda: "99")
    taken = unpack(pack, tmp_path / "to", root)
    assert taken.modules == [] and taken.cache is None and len(taken.notes) == 2 and len(taken.paths) == 1


def test_a_pack_that_is_damaged(pack: Path, tree: Path, tmp_path: Path) -> None:
    root, whole = fresh(tree, tmp_path), pack.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        pack.write_bytes(whole[:size])
        taken = unpack(pack, tmp_path / "to", root)
        assert taken.modules == [] and "cannot be used" in taken.notes[0]
    pack.write_bytes(whole)
    places = {}
    with zipfile.ZipFile(pack) as file:
        for name in (f"modules/_cuda{suffix()}", "triton/OTHER/norm.cubin"):
            places[name] = file.getinfo(name).header_offset + len(name) + 40
    spoilt = bytearray(whole)
    for place in places.values():
        spoilt[place] ^= 0xFF
    pack.write_bytes(spoilt)
    taken = unpack(pack, tmp_path / "else", root)
    assert taken.modules == [f"_core{suffix()}"] and taken.kernels == 1
    assert sorted(note.partition(" is damaged")[0] for note in taken.notes) == [
        f"modules/_cuda{suffix()}", "the kernel OTHER",
    ]  # fmt: skip
    assert not (tmp_path / "else" / "triton" / "OTHER").exists(), "half a kernel would be taken for a whole one"


def test_a_disk_that_is_full(pack: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    root = fresh(tree, tmp_path)
    monkeypatch.setattr(take_along, "_write", full)
    taken = unpack(pack, tmp_path / "to", root)
    assert taken.modules == [] and "No space left" in taken.notes[0]
    assert unpack(tmp_path / "nothing.zip", tmp_path / "to", root).notes == []


def test_modules_that_cannot_be_put_into_the_tree(
    pack: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are built then, elsewhere or not at all; kernels and wheels are there all the same."""
    root, plain = fresh(tree, tmp_path), take_along._write

    def write(path: Path, body: bytes) -> None:
        if root in path.parents:
            raise OSError(30, "Read-only file system")
        plain(path, body)

    monkeypatch.setattr(take_along, "_write", write)
    taken = unpack(pack, tmp_path / "to", root)
    assert taken.modules == [] and "Read-only" in taken.notes[0]
    assert taken.kernels > 0 and taken.cache is not None and taken.paths


def test_what_travels_is_counted() -> None:
    assert take_along.travelling() > 1_000_000
    assert take_along.travelling(Path("/")) == 0

"""What a machine with a GPU and little time need not build: one zip, made on another machine, used where it fits.

    python -m bench.gpu.take_along --cache DIR --wheels DIR [--to build/take-along/pack.zip]     `make gpu-pack`

It holds the modules that this Python has built in python/longspan, Triton's compiled kernels and ways to launch them,
and peers' wheels, which are plain Python. `rented.py` unpacks it: each file that is whole, by the zip's checksums.
Modules are taken if they are of the same C++ sources and the same kind of Python, kernels if Triton's version is the
same. A cache of Triton's knows its files by their whole path, so those are written anew where it is unpacked.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PACK: Final = ROOT / "build" / "take-along" / "pack.zip"
UNPACKED: Final = ROOT / "build" / "taken-along"
MANIFEST: Final = "manifest.json"
GROUP: Final = "__grp__"  # how the files begin that name a kernel's others
SOURCES: Final = ("CMakeLists.txt", "csrc")


@dataclass(slots=True)
class Taken:
    """What a pack had for this machine, and in words what it had not."""

    modules: list[str] = field(default_factory=list)
    cache: Path | None = None
    kernels: int = 0
    paths: list[Path] = field(default_factory=list)  # for PYTHONPATH
    notes: list[str] = field(default_factory=list)


def sources(root: Path = ROOT) -> str:
    """A hash of all that the modules are built from."""
    found = hashlib.sha256()
    for name in SOURCES:
        top = root / name
        for file in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if file.is_file():
                found.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes() + b"\0")
    return found.hexdigest()


def suffix() -> str:
    """How this Python's modules end."""
    return str(sysconfig.get_config_var("EXT_SUFFIX"))


def triton_version() -> str:
    """Of the installed one, or that there is none."""
    try:
        return metadata.version("triton")
    except metadata.PackageNotFoundError:
        return "none"


def make(to: Path, cache: Path, wheels: Path, root: Path = ROOT) -> dict[str, object]:
    """Write the pack, aside and then renamed. Returns: its manifest."""
    files = {f"modules/{file.name}": file for file in sorted((root / "python" / "longspan").glob(f"_*{suffix()}"))}
    modules = [*files]
    # Beside the machine code Triton keeps what it was made from, which nobody asks a rented machine for.
    kept = {".cubin", ".json", ".so"}
    files |= {f"triton/{each.relative_to(cache)}": each for each in sorted(cache.glob("*/*")) if each.suffix in kept}
    files |= {f"wheels/{each.name}": each for each in sorted(wheels.glob("*.whl"))}
    manifest: dict[str, object] = {
        "python": suffix(),
        "triton": triton_version(),
        "sources": sources(root),
        "modules": [Path(name).name for name in modules],
        "kernels": sum(name.endswith(".cubin") for name in files),
        "wheels": [Path(name).name for name in files if name.startswith("wheels/")],
    }
    to.parent.mkdir(parents=True, exist_ok=True)
    aside = to.with_name(f".{to.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as pack:
            pack.writestr(MANIFEST, json.dumps(manifest, indent=1))
            for name, file in files.items():
                pack.write(file, name)
        os.replace(aside, to)
    finally:
        aside.unlink(missing_ok=True)
    return manifest


def unpack(pack: Path = PACK, to: Path = UNPACKED, root: Path = ROOT) -> Taken:
    """Put everything in its place; what is wrong with the pack or the disk is a note, and costs what it is about."""
    taken = Taken()
    if not pack.exists():
        return taken
    try:
        with zipfile.ZipFile(pack) as file:
            manifest = json.loads(_read(file, MANIFEST) or b"{}")
            takes: tuple[Callable[[], None], ...] = (
                lambda: _take_modules(file, manifest, root, taken),
                lambda: _take_cache(file, manifest, to / "triton", taken),
                lambda: _take_wheels(file, to / "wheels", taken),
            )
            for take in takes:
                try:
                    take()
                except OSError as error:  # such as a folder that cannot be written to: the others may have theirs
                    taken.notes.append(f"not unpacked: {error}")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        taken.notes.append(f"{pack.name} cannot be used: {error}")
    return taken


def _read(file: zipfile.ZipFile, name: str) -> bytes | None:
    """None where it is not there, or not whole."""
    try:
        return file.read(name)
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
        return None


def _write(path: Path, body: bytes) -> None:
    """Aside, then renamed, unless that is what is there."""
    if path.is_file() and path.stat().st_size == len(body) and path.read_bytes() == body:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_bytes(body)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _take_modules(file: zipfile.ZipFile, manifest: dict[str, object], root: Path, taken: Taken) -> None:
    names = [name for name in file.namelist() if name.startswith("modules/") and name.endswith(suffix())]
    if not names:
        taken.notes.append(f"no modules for this Python, which wants {suffix()}, but {manifest.get('python')}")
        return
    if manifest.get("sources") != sources(root):
        taken.notes.append("its modules are of other C++ sources than these")
        return
    for name in names:
        body = _read(file, name)
        if body is None:
            taken.notes.append(f"{name} is damaged")
            continue
        _write(root / "python" / "longspan" / Path(name).name, body)
        taken.modules.append(Path(name).name)


def _take_cache(file: zipfile.ZipFile, manifest: dict[str, object], to: Path, taken: Taken) -> None:
    if manifest.get("triton") != triton_version():
        taken.notes.append(f"its kernels are Triton {manifest.get('triton')}'s, here is {triton_version()}")
        return
    for key, names in _by_key(file):
        bodies = {Path(name).name: _read(file, name) for name in names}
        if None in bodies.values():  # half a kernel would be taken for a whole one
            taken.notes.append(f"the kernel {key} is damaged")
            continue
        for name, body in bodies.items():
            assert body is not None
            if name.startswith(GROUP):
                paths = {each: str(to / key / each) for each in json.loads(body)["child_paths"] if each in bodies}
                _write(to / key / name, json.dumps({"child_paths": paths}).encode())
            else:
                _write(to / key / name, body)
        taken.kernels += any(name.endswith(".cubin") for name in bodies)
    taken.cache = to


def _by_key(file: zipfile.ZipFile) -> Iterator[tuple[str, list[str]]]:
    """Triton's folders, each a kernel or a way to launch one."""
    found: dict[str, list[str]] = {}
    for name in file.namelist():
        parts = name.split("/")
        if len(parts) == 3 and parts[0] == "triton" and ".." not in parts:
            found.setdefault(parts[1], []).append(name)
    yield from found.items()


def _take_wheels(file: zipfile.ZipFile, to: Path, taken: Taken) -> None:
    for name in file.namelist():
        if not name.startswith("wheels/"):
            continue
        body, folder = _read(file, name), to / Path(name).stem
        if body is None:
            taken.notes.append(f"{name} is damaged")
            continue
        if not folder.is_dir():
            wheel, aside = to / Path(name).name, folder.with_name(f".{folder.name}.{os.getpid()}")
            _write(wheel, body)
            with zipfile.ZipFile(wheel) as inner:
                inner.extractall(aside)
            aside.rename(folder)
        taken.paths.append(folder)


def travelling(root: Path = ROOT) -> int:
    """Bytes of the files that git knows, which travel with the pack."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    total = 0
    for name in listed.decode().split("\0"):
        with suppress(OSError):
            total += (root / name).stat().st_size if name else 0
    return total


def main() -> int:
    """The command. Returns: 0; 1 where there are no modules to take."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.take_along", description=__doc__.partition("\n")[0])
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR", help="Triton's")
    parser.add_argument("--wheels", type=Path, required=True, metavar="DIR")
    parser.add_argument("--to", type=Path, default=PACK, metavar="FILE")
    options = parser.parse_args()
    manifest = make(options.to, options.cache, options.wheels)
    megabytes, tree = options.to.stat().st_size / 1e6, travelling() / 1e6
    print(json.dumps(manifest, indent=1))
    print(f"{options.to}: {megabytes:.1f} MB, beside {tree:.1f} MB of the tree's own files")
    if not manifest["modules"]:
        print("error: python/longspan has no modules of this Python", file=sys.stderr)
        return 1
    shutil.rmtree(UNPACKED, ignore_errors=True)  # of an older pack
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Tensors of a small .pt file, as torch.save writes them, read without torch and without running its pickle.

The file is a zip: `<top>/data.pkl` says which tensors there are, `<top>/data/<key>` holds numbers. A pickle is a
program for a stack machine, and what makes it dangerous is that its instructions import and call. The machine here is
our own: it knows the two dozen instructions that torch writes, and its values are texts, numbers, tuples, dicts and two
records. An import gives a `Name`, which is a pair of texts; a "call" of one of four such names makes an empty dict or a
record, and of any other is refused. So there is nothing in it that could run.

Meant for heads of a megabyte beside a checkpoint, not for whole models: those are converted once (`convert_command`).
"""

from __future__ import annotations

import math
import pickletools
import reprlib
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, TypeGuard

import numpy as np

from longspan.checkpoint.safetensors_folder import first_non_finite
from longspan.errors import CheckpointError

MAX_FILE_BYTES: Final = 1 << 30
MAX_PICKLE_BYTES: Final = 1 << 20
MAX_ENTRIES: Final = 1000
# torch's storage classes of floats, and how their numbers lie in the file; bfloat16 as its bits.
STORAGES: Final = {"HalfStorage": "<f2", "BFloat16Storage": "<u2", "FloatStorage": "<f4", "DoubleStorage": "<f8"}
NAMES: Final = frozenset(
    {
        ("collections", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch._utils", "_rebuild_parameter"),
        *(("torch", storage) for storage in STORAGES),
    }
)


def convert_command(name: str) -> str:
    """The one line that turns a .pt file of tensors into a .safetensors file beside it."""
    stem = name.removesuffix(".pt")
    return (
        'python -c "import torch; from safetensors.torch import save_file; '
        f"save_file({{k: v.contiguous() for k, v in torch.load('{name}', map_location='cpu', weights_only=True).items()"
        f"}}, '{stem}.safetensors')\""
    )


def read_torch_file(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """The tensors of a dict of tensors, as float32: at least one, all of them called as in `names`.

    Raises: CheckpointError, saying how to convert the file, where it is damaged, compressed or encrypted, too large, of
        the format before torch 1.6, big-endian, or holds anything but such tensors of finite floats.
    """
    try:
        tensors = _read(path, names)
    except _RefusedError as error:
        raise CheckpointError(
            f"{path} is not read: {error}; if you trust where it is from, convert it, in its folder, with: "
            f"{convert_command(path.name)}"
        ) from None
    for name, values in tensors.items():
        if (place := first_non_finite(values)) is not None:
            raise CheckpointError(f"{path}: tensor {name!r} holds {values.flat[place]} at flat position {place}")
    return tensors


class _RefusedError(Exception):
    """Why a file is not read."""


def _refuse(why: str) -> NoReturn:
    raise _RefusedError(why)


def _read(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing, or is not a file")
    if path.stat().st_size > MAX_FILE_BYTES:
        _refuse(f"it is larger than {MAX_FILE_BYTES} bytes")
    try:
        with zipfile.ZipFile(path) as archive:
            return _tensors(_Archive(archive), names)
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        EOFError,
        OSError,
        UnicodeError,
        zlib.error,
        RuntimeError,
    ) as error:
        _refuse(f"it is no zip file as torch writes since 1.6 ({reprlib.repr(str(error))})")
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, AttributeError) as error:
        _refuse(f"its pickle is damaged ({type(error).__name__}: {reprlib.repr(str(error))})")


class _Archive:
    """The zip's entries, all in one folder, stored as they are."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        entries = archive.infolist()
        if len(entries) > MAX_ENTRIES:
            _refuse(f"it has {len(entries)} entries")
        self._entries = {entry.filename: entry for entry in entries}
        pickles = [name for name in self._entries if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(self._entries) < len(entries) or len(pickles) != 1:
            _refuse("it must have one data.pkl and no name twice")
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
                _refuse(f"the entry {reprlib.repr(entry.filename)} is compressed or encrypted")
        self._top = pickles[0].removesuffix("data.pkl")

    def has(self, name: str) -> bool:
        """Whether there is such an entry."""
        return self._top + name in self._entries

    def read(self, name: str, least: int, most: int) -> bytes:
        """The entry, of a size in these bounds."""
        entry = self._entries.get(self._top + name)
        if entry is None:
            _refuse(f"the entry {reprlib.repr(name)} is missing")
        if not least <= entry.file_size <= most:
            _refuse(f"the entry {reprlib.repr(name)} must have {least} to {most} bytes, got {entry.file_size}")
        data = self._archive.read(entry)  # which holds it against its CRC-32
        if len(data) != entry.file_size:
            _refuse(f"the entry {reprlib.repr(name)} is cut off")
        return data


@dataclass(frozen=True, slots=True)
class Name:
    """An import of the pickle, which nothing imports."""

    module: str
    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """Where numbers lie: an entry, how many of them, of what kind."""

    kind: str
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage, in numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensors(archive: _Archive, names: Collection[str]) -> dict[str, np.ndarray]:
    if archive.has("byteorder") and archive.read("byteorder", 0, 16) != b"little":
        _refuse("its numbers are not little-endian")
    value = _Machine().run(archive.read("data.pkl", 1, MAX_PICKLE_BYTES))
    if not isinstance(value, dict) or not all(isinstance(tensor, Tensor) for tensor in value.values()):
        _refuse("it must hold a dict of tensors and nothing else")
    if not value or not set(value) <= set(names):
        _refuse(f"it must hold {', '.join(names)}, got {reprlib.repr(sorted(map(str, value)))}")
    return {name: _values(archive, tensor) for name, tensor in value.items()}


def _values(archive: _Archive, tensor: Tensor) -> np.ndarray:
    storage, dtype = tensor.storage, np.dtype(STORAGES[tensor.storage.kind])
    whole = storage.count * dtype.itemsize
    if tensor.offset < 0 or min((*tensor.shape, *tensor.strides), default=0) < 0:
        _refuse("a tensor has a negative size, stride or offset")
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.strides, strict=True))
    if 0 in tensor.shape or tensor.offset + last >= storage.count:
        _refuse(f"a tensor of {tensor.shape} from {tensor.offset} on does not lie in its {storage.count} numbers")
    if math.prod(tensor.shape) > storage.count:
        _refuse(f"a tensor of {tensor.shape} repeats its {storage.count} numbers")
    numbers = np.frombuffer(archive.read(f"data/{storage.key}", whole, whole), dtype)
    strides = tuple(stride * dtype.itemsize for stride in tensor.strides)
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
    if storage.kind == "BFloat16Storage":
        return (view.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(view, np.float32)


_MARK: Final = object()
# What pushes the argument that stands in the instruction.
_CONSTANTS: Final = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE"})
_FIXED: Final[dict[str, Callable[[], object]]] = {
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "NONE": lambda: None,
    "MARK": lambda: _MARK,
}
_TUPLES: Final = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """Runs a pickle's instructions on values that can do nothing."""

    def __init__(self) -> None:
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}

    def run(self, pickle: bytes) -> object:
        """What it leaves on the stack."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # genops unescapes names, which need it not
            for opcode, argument, _ in pickletools.genops(pickle):
                if opcode.name != "STOP":
                    self._step(opcode.name, argument)
        if len(self._stack) != 1:
            _refuse("its pickle leaves more than one value")
        return self._stack[0]

    def _step(self, name: str, argument: object) -> None:  # noqa: PLR0912  (a branch an instruction)
        stack = self._stack
        if name in _CONSTANTS:
            stack.append(argument)
        elif name in _FIXED:
            stack.append(_FIXED[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(self._memo) if name == "MEMOIZE" else int(str(argument))
            self._memo[place] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[int(str(argument))])
        elif name == "GLOBAL":
            stack.append(_imported(*str(argument).split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            if not isinstance(module, str) or not isinstance(attribute, str):
                _refuse("its pickle imports what is no name")
            stack.append(_imported(module, attribute))
        elif name in _TUPLES:
            self._fold(_TUPLES[name])
        elif name == "TUPLE":
            self._fold(len(self._since_mark()))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_called(function, arguments))
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self._since_mark(drop=True)
            _fill(stack[-1], items)
        elif name == "BUILD":
            _check_metadata(stack.pop(), stack[-1])
        elif name not in ("PROTO", "FRAME"):
            _refuse(f"its pickle uses the instruction {name}, which torch does not write for tensors")

    def _since_mark(self, *, drop: bool = False) -> list[object]:
        """What lies above the last mark, which goes; with `drop` it goes as well."""
        at = max(place for place, value in enumerate(self._stack) if value is _MARK)
        values = self._stack[at + 1 :]
        del self._stack[at : None if drop else at + 1]
        return values

    def _fold(self, count: int) -> None:
        """The last `count` values as a tuple."""
        at = len(self._stack) - count
        if at < 0:
            raise IndexError("the stack is too short")
        self._stack[at:] = [tuple(self._stack[at:])]


def _imported(module: str, name: str = "") -> Name:
    if (module, name) not in NAMES:
        _refuse(f"its pickle imports {reprlib.repr(f'{module}.{name}')}, which may run code")
    return Name(module, name)


def _storage(value: object) -> Storage:
    if not isinstance(value, tuple) or len(value) != 5 or value[0] != "storage":
        _refuse("its pickle names a storage in an unknown way")
    _, kind, key, _, count = value
    if not isinstance(kind, Name) or kind.name not in STORAGES or not isinstance(key, str) or not _is_count(count):
        _refuse("its pickle names a storage in an unknown way")
    return Storage(kind.name, key, count)


def _called(function: object, arguments: object) -> object:
    if not isinstance(function, Name) or not isinstance(arguments, tuple):
        _refuse("its pickle calls what is no name")
    if function.name == "OrderedDict" and not arguments:
        return {}
    if function.name == "_rebuild_parameter" and len(arguments) == 3 and isinstance(arguments[0], Tensor):
        return arguments[0]
    if function.name == "_rebuild_tensor_v2" and len(arguments) in (6, 7):
        storage, offset, shape, strides = arguments[:4]
        if not (isinstance(storage, Storage) and _is_count(offset) and _are_counts(shape) and _are_counts(strides)):
            _refuse("its pickle makes a tensor of something else than numbers")
        if len(shape) != len(strides) or len(shape) > 8:
            _refuse("its pickle makes a tensor whose sizes and strides differ in number")
        return Tensor(storage, offset, shape, strides)
    _refuse(f"its pickle calls {function.module}.{function.name} in an unknown way")


def _fill(target: object, items: list[object]) -> None:
    if not isinstance(target, dict) or len(items) % 2:
        _refuse("its pickle sets items of what is no dict")
    for key, value in zip(items[::2], items[1::2]):
        if not isinstance(key, str):
            _refuse("its pickle has a key that is no text")
        target[key] = value


def _check_metadata(state: object, target: object) -> None:
    """A module's state dict has the attribute `_metadata`, which says nothing of its tensors."""
    if not isinstance(target, dict) or not isinstance(state, dict) or set(state) - {"_metadata"}:
        _refuse("its pickle builds an object")


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= MAX_FILE_BYTES


def _are_counts(value: object) -> TypeGuard[tuple[int, ...]]:
    return isinstance(value, tuple) and all(map(_is_count, value))

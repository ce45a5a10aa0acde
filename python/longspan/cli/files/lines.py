"""A file's bytes as UTF-8, a line at a time: unzipped, in the encoding that it is in, without a byte order mark."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final, cast

from longspan.cli.console.failures import CommandError
from longspan.cli.console.streams import standard_input

if TYPE_CHECKING:
    from longspan.cli.files.inputs import Input

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"  # what such files begin with
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_MARKS: Final = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_BLOCK: Final = 1 << 13  # bytes that are unzipped at a time; of zstd they may become 30,000 times as many
MOST_BYTES: Final = 512 << 20  # of a file that is read whole and that nobody has named


def read_lines(source: Input) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, the line in UTF-8 with its line end); a byte order mark is dropped.

    Raises: CommandError, a zipped file that is damaged or cut off, bytes that are not of the encoding.
    """
    try:
        with opened(source) as handle:
            yield from enumerate(_whole_lines(_utf8(source, handle)), start=1)
    except (EOFError, zlib.error, gzip.BadGzipFile, _ZstdError) as error:
        raise CommandError(f"{source.name} is not a whole {_zip_name(source)} file: {error}") from error


def read_whole(source: Input) -> bytes:
    """All of a file in UTF-8. Raises: as `read_lines`; CommandError, nobody has named it and it is very large."""
    parts, size = [], 0
    for _, line in read_lines(source):
        parts.append(line)
        size += len(line)
        if source.is_found and size > MOST_BYTES:
            raise CommandError(f"larger than {MOST_BYTES >> 20} MB")
    return b"".join(parts)


def read_bytes(source: Input) -> bytes:
    """All of a file as it is, unzipped. Raises: as `read_whole`."""
    try:
        with opened(source) as handle:
            data = handle.read(MOST_BYTES + 1 if source.is_found else -1)
    except (EOFError, zlib.error, gzip.BadGzipFile, _ZstdError) as error:
        raise CommandError(f"{source.name} is not a whole {_zip_name(source)} file: {error}") from error
    if source.is_found and len(data) > MOST_BYTES:
        raise CommandError(f"larger than {MOST_BYTES >> 20} MB")
    return data


@contextmanager
def opened(source: Input) -> Iterator[io.BufferedReader[Any]]:
    """The file, or standard input, to be read unzipped; standard input is unzipped if it is gzip or zstd."""
    if source.path is not None:
        with open(source.path, "rb") as file:
            yield _unzipped(file, file.peek(4) if source.is_zipped else b"", source)
        return
    stream = standard_input().buffer
    if isinstance(stream, io.BufferedReader):
        yield _unzipped(stream, stream.peek(4), source)
        return
    reader = io.BufferedReader(cast("io.RawIOBase", stream))
    try:
        yield _unzipped(reader, reader.peek(4), source)
    finally:
        reader.detach()  # not ours to close


def _unzipped(file: io.BufferedReader[Any], head: bytes, source: Input) -> io.BufferedReader[Any]:
    suffix = "" if source.path is None else source.path.suffix.lower()
    if suffix == ".zst" or head.startswith(_ZSTD):
        return io.BufferedReader(_Zstd(file))
    if suffix == ".gz" or head.startswith(_GZIP):
        return io.BufferedReader(gzip.GzipFile(fileobj=file))
    return file


def _zip_name(source: Input) -> str:
    return "zstd" if source.path is not None and source.path.suffix.lower() == ".zst" else "gzip"


def _utf8(source: Input, handle: io.BufferedReader[Any]) -> Iterable[bytes]:
    """The lines in UTF-8; another encoding is what `source` says, or a byte order mark."""
    head = handle.peek(4)[:4]
    marked = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    encoding = source.encoding or marked
    if encoding is None or codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
        yield from _without_mark(handle)
        return
    text = io.TextIOWrapper(handle, encoding=encoding, newline="\n")
    try:
        for line in text:
            yield line.removeprefix("\ufeff").encode("utf-8", "surrogatepass")
    except UnicodeError as error:
        raise CommandError(f"{source.name} is not {encoding}: {error}; --encoding says what it is") from error
    finally:
        text.detach()


def _without_mark(handle: Iterable[bytes]) -> Iterator[bytes]:
    lines = iter(handle)
    first = next(lines, b"")
    yield first.removeprefix(_UTF8_MARK)
    yield from lines


def _whole_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines, of a file whose lines end with a carriage return alone too."""
    rest = iter(lines)
    first = next(rest, b"")
    if b"\n" not in first and b"\r" in first:  # an old Macintosh's line ends, or a program's that still writes them
        yield from (line + b"\r" for line in first.removesuffix(b"\r").split(b"\r"))
    elif first:
        yield first
    yield from rest


class _ZstdError(ValueError):
    pass


class _Zstd(io.RawIOBase):
    """What zstd frames hold, one behind the other; their end must be there."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._make = file, _decompressor()
        self._frame: Any = None  # of whichever library
        self._given, self._out = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """As RawIOBase's."""
        while not self._out:
            data = self._given or self._file.read(_BLOCK)
            self._given = b""
            if not data:
                if self._frame is not None:
                    raise EOFError("its end is missing")
                return 0
            if self._frame is None:
                self._frame = self._make()
            try:
                self._out = memoryview(self._frame.decompress(data))
            except Exception as error:  # ZstdError, of whichever library
                raise _ZstdError(str(error)) from error
            if self._frame.eof:
                self._given, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._out))
        buffer[:size], self._out = self._out[:size], self._out[size:]
        return size


def _decompressor() -> Any:
    """What makes an object with `decompress`, `eof` and `unused_data`: Python's own from 3.14 on, or zstandard's."""
    try:
        from compression.zstd import ZstdDecompressor  # type: ignore[import-not-found, unused-ignore]

        return ZstdDecompressor
    except ImportError:
        pass
    try:
        import zstandard
    except ImportError as error:
        raise CommandError("files that end in .zst need zstandard: pip install 'longspan[zstd]'") from error
    return lambda: zstandard.ZstdDecompressor().decompressobj()


def check_encoding(name: str | None) -> None:
    """Raises: CommandError, Python knows no such encoding of text."""
    if name is None:
        return
    try:
        "a".encode(name)
    except (LookupError, ValueError, TypeError) as error:
        raise CommandError(f"--encoding {name}: there is no such encoding; try utf-8, latin-1 or utf-16") from error

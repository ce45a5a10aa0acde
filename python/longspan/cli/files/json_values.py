"""The objects of a JSON file that holds an array of them, or one behind the other, read as a stream."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Final

_BLANK: Final = " \t\r\n"
_LEAST: Final = 1 << 16  # characters that are read ahead of a value
_NEAR: Final = 32  # characters: an error so near the end of what is read may be but a value that goes on
_MORE: Final = ("Unterminated string", "Invalid \\")  # errors of values that go on, wherever they are found


def json_values(lines: Iterable[bytes]) -> Iterator[tuple[object, int]]:
    """Each value and the bytes that it takes: the elements, if the file is one array; else the values of the file.

    Raises: ValueError, it is not JSON, or not UTF-8; RecursionError, a value is too deep.
    """
    text = _Text(lines)
    if text.skip_blanks() != "[":
        while text.skip_blanks():
            yield text.value()
        return
    text.take("[")
    if text.skip_blanks() == "]":
        text.take("]")
    else:
        while True:
            yield text.value()
            if text.skip_blanks() != ",":
                break
            text.take(",")
        text.take("]")
    if text.skip_blanks():
        raise ValueError("there is more behind the array")


class _Text:
    """What is read and not yet taken."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self._lines, self._decoder = iter(lines), codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder()
        self._text, self._at, self._is_whole = "", 0, False

    def skip_blanks(self) -> str:
        """The character that is next; "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text) or self._is_whole:
                return self._text[self._at : self._at + 1]
            self._read_more()

    def take(self, character: str) -> None:
        """Raises: ValueError, another one is next."""
        if self.skip_blanks() != character:
            raise ValueError(f"expecting {character!r}, got {self._text[self._at : self._at + 20]!r}")
        self._at += 1

    def value(self) -> tuple[object, int]:
        """The value that is next, and its bytes."""
        self.skip_blanks()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                goes_on = error.pos > len(self._text) - _NEAR or error.msg.startswith(_MORE)
                if self._is_whole or not goes_on:
                    raise ValueError(f"{error.msg}: {self._text[error.pos : error.pos + 20]!r}") from error
            else:
                if end < len(self._text) or self._is_whole:  # a number at the end may go on
                    size = len(self._text[self._at : end].encode("utf-8", "surrogatepass"))
                    self._at = end
                    return value, size
            self._read_more()

    def _read_more(self) -> None:
        """As much again as is held, so that long values take time linear in their length."""
        left = self._text[self._at :]
        parts, wanted = [left], max(_LEAST, len(left))
        while wanted > 0 and not self._is_whole:
            line = next(self._lines, None)
            self._is_whole = line is None
            parts.append(self._decoder.decode(line or b"", final=self._is_whole))
            wanted -= len(parts[-1])
        self._text, self._at = "".join(parts), 0

"""Patterns as a .gitignore has them, matched as git matches them, in time that no pattern can make long.

A pattern is matched against one file or folder, as git does it: what a folder's pattern means for what lies below is
for the walk to see to, which does not enter the folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

ANY: Final = None  # one character but a slash; as a segment, one name of a path
_STAR: Final = "*"  # any number of either
_SPECIAL: Final = re.compile(r"[*?\[\\]")
_CLASS: Final = re.compile(r"\[([!^]?)(\]?(?:\\.|\[:\w+:\]|[^\]\\])*)\]")
_NAMED: Final = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "blank": " \t", "digit": "0-9", "lower": "a-z", "space": r"\s",
    "upper": "A-Z", "xdigit": "0-9A-Fa-f", "punct": r"!-/:-@\[-`{-~",
}  # fmt: skip
Piece = str | re.Pattern[str] | None  # `_STAR` by identity, one character or a class of them, or ANY
Name = Callable[[str], bool] | str | None  # what a name of a path must be; `_STAR` any number of names
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One of a .gitignore's lines.

    Attributes:
        names: what the names of a path must be; of one, which holds at any depth, that alone.
        is_anywhere: whether only the last name is looked at.
        is_negated: it takes back what one before it said.
        of_folders: it is for folders alone.
    """

    names: tuple[Name, ...]
    is_anywhere: bool
    is_negated: bool
    of_folders: bool

    def matches(self, path: str, is_folder: bool) -> bool:
        """Of a path from where the pattern holds, with slashes."""
        if self.of_folders and not is_folder:
            return False
        if self.is_anywhere:
            return _is_name(self.names[0], path.rpartition("/")[2])
        return _wildcard(self.names, path.split("/"), _is_name)


class Patterns:
    """Several, of which the last that matches decides."""

    def __init__(self, lines: Iterable[str]) -> None:
        found = (_parsed(line) for line in lines)
        self._patterns = [pattern for pattern in reversed([*found]) if pattern is not None]

    def verdict(self, path: str, is_folder: bool) -> bool | None:
        """Whether the path is meant; None where none matches."""
        for pattern in self._patterns:
            if pattern.matches(path, is_folder):
                return not pattern.is_negated
        return None


def _parsed(line: str) -> Pattern | None:
    """None for a comment, a blank line, or a pattern that can match nothing."""
    text = line.rstrip("\r\n")
    while text.endswith(" ") and not text.endswith("\\ "):
        text = text[:-1]
    if not text or text.startswith("#"):
        return None
    is_negated = text.startswith("!")
    text = text[is_negated:]
    of_folders = text.endswith("/")
    text = text.removesuffix("/")
    is_anywhere = "/" not in text
    parts = text.removeprefix("/").split("/")
    if not all(parts):
        return None
    try:
        names = [_STAR if part == "**" else _name(part) for part in parts]
    except ValueError:
        return None
    if parts == ["**"]:
        return Pattern((ANY,), True, is_negated, of_folders)
    if parts[-1] == "**":
        names[-1:] = [ANY, _STAR]  # what is in the folder, not the folder itself
    return Pattern(tuple(names), is_anywhere, is_negated, of_folders)


def _name(part: str) -> Name:
    """What a name must be. Raises: ValueError, nothing can be it."""
    if not _SPECIAL.search(part):
        return part.__eq__
    if part.startswith("*") and not _SPECIAL.search(part[1:]):
        return _Ends(part[1:])
    return _Glob(_pieces(part))


@dataclass(frozen=True, slots=True)
class _Ends:
    end: str

    def __call__(self, name: str) -> bool:
        return name.endswith(self.end)


@dataclass(frozen=True, slots=True)
class _Glob:
    pieces: tuple[Piece, ...]

    def __call__(self, name: str) -> bool:
        return _wildcard(self.pieces, name, _is_character)


def _pieces(part: str) -> tuple[Piece, ...]:
    pieces: list[Piece] = []
    at = 0
    while at < len(part):
        character = part[at]
        at += 1
        if character == "*":
            if not pieces or pieces[-1] is not _STAR:
                pieces.append(_STAR)
        elif character == "?":
            pieces.append(ANY)
        elif character == "[" and (found := _CLASS.match(part, at - 1)):
            pieces.append(_character_class(found))
            at = found.end()
        elif character in "[\\" and (character == "[" or at == len(part)):
            raise ValueError("a bracket or an escape that does not end matches nothing")
        else:
            literal = part[at] if character == "\\" else character
            at += character == "\\"
            pieces.append(re.compile(re.escape(literal)))
    return tuple(pieces)


def _character_class(found: re.Match[str]) -> re.Pattern[str]:
    """Raises: ValueError, it is none."""
    content = re.sub(r"\[:(\w+):\]", lambda name: f"\0{_NAMED.get(name[1], '')}\0", found[2])
    plain = content.split("\0")
    escaped = [re.sub(r"([\[\]^&~|])", r"\\\1", one) if place % 2 == 0 else one for place, one in enumerate(plain)]
    try:
        return re.compile(f"[{'^' if found[1] else ''}{''.join(escaped)}]")
    except re.error as error:
        raise ValueError(str(error)) from error


def _is_character(piece: Piece, character: str) -> bool:
    return piece is ANY or (isinstance(piece, re.Pattern) and piece.match(character) is not None)


def _is_name(wanted: Name, name: str) -> bool:
    return wanted is ANY or (callable(wanted) and wanted(name))


def _wildcard(pattern: Sequence[T], items: Sequence[str], fits: Callable[[T, str], bool]) -> bool:
    """Whether the items are what the pattern says, `_STAR` for any number of them: in time |pattern| x |items|."""
    at = place = 0
    star = star_place = -1
    while place < len(items):
        if at < len(pattern) and pattern[at] is _STAR:
            star, star_place = at, place
            at += 1
        elif at < len(pattern) and fits(pattern[at], items[place]):
            at, place = at + 1, place + 1
        elif star >= 0:
            star_place += 1
            at, place = star + 1, star_place
        else:
            return False
    return all(one is _STAR for one in pattern[at:])

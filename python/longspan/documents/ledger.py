"""What an index holds of each document: its key, a hash of what it was made of, and the passages it became.

A document is known by its key: the place where it lies, as a path from the folder that holds the index, or a field of
its own. Its hash tells whether it has changed. Both stand in each passage's line, with the passage's number and how
many there are: so an index says by itself what is whole, and a run that was stopped goes on with what is missing.
"""

from __future__ import annotations

import hashlib
import json
import operator
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from longspan.documents.globs import Patterns
from longspan.documents.kinds import DOCUMENTS
from longspan.errors import IndexFileError

if TYPE_CHECKING:
    from longspan.documents.folder import SearchIndex

HASH_DIGITS: Final = 32
_ROW_MARKS: Final = (":", ": row ", ": page ")  # what stands between a file's key and a row's number


def key_of_path(path: str | Path, index: str | Path) -> str:
    """A file's key in an index's folder: its path from where that lies, with slashes, links but the last followed.

    The same from any working folder, and where both have been moved together.
    """
    parent, name = os.path.split(os.path.abspath(path))
    place = os.path.join(os.path.realpath(parent), name) if name else os.path.realpath(parent)
    try:
        found = os.path.relpath(place, os.path.dirname(os.path.realpath(index)))
    except ValueError:  # another drive
        found = place
    return os.fsencode(found.replace(os.sep, "/")).decode("utf-8", "backslashreplace")


def hash_of(*parts: str | bytes) -> str:
    """32 hexadecimal digits; parts are told apart."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:HASH_DIGITS]


def how_made(
    task: str | None = None, prompt_name: str | None = None, prompt: str | None = None, max_length: int | None = None
) -> str:
    """What shapes a vector beside the document: with other options it counts as changed."""
    return json.dumps([task, prompt_name, prompt, max_length])


def stamped(line: str, key: str, hash: str, part: int, parts: int) -> str:
    """A passage's line, a JSON object, with its document's key and hash, and which of how many passages it is."""
    stamp = json.dumps({"key": key, "hash": hash, "part": [part, parts]}, ensure_ascii=False)
    return f"{stamp[:-1]}, {line[1:]}"


@dataclass(slots=True)
class Version:
    """Passages of one document that have the same hash: their ids, by number."""

    hash: str
    parts: int
    ids: dict[int, int] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        return len(self.ids) == self.parts


@dataclass(frozen=True, slots=True)
class Changes:
    """What a run did to the documents of an index.

    Attributes:
        new, changed, unchanged, gone: how many of each.
    """

    new: int
    changed: int
    unchanged: int
    gone: int


class Ledger:
    """The documents of an index, and what a run has met of them."""

    def __init__(self) -> None:
        self._versions: dict[str, list[Version]] = {}
        self._without_key: list[int] = []  # ids of passages that have none: of standard input, or of an older longspan
        self._spare: list[int] = []  # ids of passages that are there twice
        self._wanted: dict[str, str] = {}  # of the documents met, their hash
        self._kept: set[str] = set()  # files that could not be read this time
        self._new: list[str] = []  # keys of documents met that the index held nothing of
        self._changed = self._unchanged = self._gone = 0

    @classmethod
    def read(cls, folder: Path, index: SearchIndex | None) -> Ledger:
        """Of the documents that the index counts. Raises: IndexFileError, their file is not what was written."""
        ledger = cls()
        if index is None:
            return ledger
        live = np.sort(index.ids)
        with open(folder / DOCUMENTS, "rb") as file:
            for id in live.tolist():
                file.seek(id)
                try:
                    line = json.loads(file.readline())
                    if line["id"] != id:
                        raise ValueError
                    ledger.add(line, id)
                except (ValueError, KeyError, TypeError) as error:
                    path = folder / DOCUMENTS
                    raise IndexFileError(
                        f"{path} was altered: there is no document at byte {id}; restore it"
                    ) from error
        return ledger

    def add(self, line: dict[str, object], id: int) -> list[int]:
        """Enter a passage's line. Returns: ids that nobody needs any more, where it makes its document whole.

        Raises: ValueError or TypeError, the line is none.
        """
        key = line.get("key")
        if key is None:
            self._without_key.append(id)
            return []
        place, hash = line["part"], line["hash"]
        if not (isinstance(key, str) and isinstance(hash, str) and isinstance(place, list)):
            raise TypeError("key, hash and part")
        part, parts = map(operator.index, place)
        versions = self._versions.setdefault(key, [])
        version = next((one for one in versions if one.hash == hash and one.parts == parts), None)
        if version is None:
            version = Version(hash, parts)
            versions.append(version)
        if part in version.ids:  # twice: of two runs that knew of no keys, perhaps
            self._spare.append(version.ids[part])
        version.ids[part] = id
        return self._outdated(key) if version.is_whole and self._wanted.get(key) == hash else []

    def meet(self, key: str, hash: str) -> bool | None:
        """Say that a run has met this document: whether the index holds it whole; None where it was met before."""
        if key in self._wanted:
            return None
        self._wanted[key] = hash
        versions = self._versions.get(key, [])
        is_whole = any(version.hash == hash and version.is_whole for version in versions)
        self._unchanged += is_whole
        if not versions:
            self._new.append(key)
        self._changed += bool(versions) and not is_whole
        return is_whole

    def held_parts(self, key: str, hash: str, parts: int) -> set[int]:
        """The numbers of this document's passages that the index holds."""
        versions = self._versions.get(key, [])
        return next((set(one.ids) for one in versions if one.hash == hash and one.parts == parts), set())

    def keep_file(self, key: str) -> None:
        """Say that a file, or what lies in a folder, could not be read: what the index holds of it stays."""
        self._kept.add(key)

    def keys(self) -> list[str]:
        """Of all documents, sorted."""
        return sorted(key for key, versions in self._versions.items() if versions)

    @property
    def has_met_any(self) -> bool:
        return bool(self._wanted)

    def leftovers(self) -> list[int]:
        """Ids of other versions of the documents that were met, and of passages that are there twice."""
        spare, self._spare = self._spare, []
        return spare + [id for key in self._wanted for id in self._outdated(key)]

    def gone(self) -> list[int]:
        """Ids of documents that were not met; they are counted."""
        found = list(self._without_key)
        self._gone += len(self._without_key)
        for key, versions in self._versions.items():
            if versions and key not in self._wanted and not self._is_kept(key):
                found += [id for version in versions for id in version.ids.values()]
                self._gone += 1
        return found

    def matching(self, pattern: str, path: str | None) -> dict[str, list[int]]:
        """Ids by the keys of documents that a pattern means.

        Args:
            pattern: a key; or of a file or folder all that lies in it; or a glob as in a .gitignore.
            path: the pattern taken for a path, as a key; None where it can be none.
        """
        ids = {key: [id for one in versions for id in one.ids.values()] for key, versions in self._versions.items()}
        if pattern in ids:
            return {pattern: ids[pattern]}
        wanted = [one.rstrip("/") for one in (pattern, path) if one is not None]
        globs = [Patterns([one]) for one in wanted if one[:1] not in ("!", "#", "")]
        return {
            key: found
            for key, found in ids.items()
            if any(place in wanted or _matches(globs, place, place != key) for place in _places(key))
        }

    def changes(self) -> Changes:
        """What has been counted. A document without a text is in no index, and so never new."""
        new = sum(bool(self._versions.get(key)) for key in self._new)
        return Changes(new, self._changed, self._unchanged, self._gone)

    def _outdated(self, key: str) -> list[int]:
        """Ids of other versions than the wanted one; they are forgotten."""
        versions, hash = self._versions.get(key, []), self._wanted[key]
        wanted = next((one for one in versions if one.hash == hash and one.is_whole), None)
        if wanted is None and any(one.hash == hash for one in versions):
            return []  # until it is whole
        self._versions[key] = [wanted] if wanted else []
        return [id for one in versions if one is not wanted for id in one.ids.values()]

    def _is_kept(self, key: str) -> bool:
        return bool(self._kept) and any(place in self._kept for place in _places(key))


def _matches(globs: Iterable[Patterns], place: str, is_folder: bool) -> bool:
    return any(glob.verdict(place, is_folder) for glob in globs)


def _places(key: str) -> Iterator[str]:
    """The key, the file that it is a row of, and the folders that hold it."""
    yield key
    place = key
    for mark in _ROW_MARKS:
        file, found, number = key.rpartition(mark)
        if found and number.isascii() and number.isdigit():
            place = file
            yield place
            break
    while "/" in place:
        place = place.rpartition("/")[0]
        yield place

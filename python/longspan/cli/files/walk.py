"""The files of a folder: all below it in order of their names, but hidden ones and what a .gitignore leaves out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from longspan.cli.files.passed_over import PassedOver
from longspan.documents.globs import Patterns
from longspan.documents.kinds import DOCUMENTS, SETTINGS

IGNORE_FILE = ".gitignore"
_MOST_IGNORE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Choice:
    """Which files of a folder are read.

    Attributes:
        include: patterns as of a .gitignore, of which a file must match one; none, for all files.
        exclude: patterns of files and folders to leave out.
        hidden: whether files and folders with a dot before their name are read.
        ignored: whether those are that a .gitignore names.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hidden: bool = False
    ignored: bool = False


def shown_name(path: str | Path) -> str:
    """A file's name as text: bytes of it that are not UTF-8 are spelled out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def walk(root: str, choice: Choice, passed: PassedOver) -> Iterator[str]:
    """The paths of the files to read, each as `root` with what lies below it.

    Links to files are followed, links to folders are not: so no loop is endless, and no file below is read twice.

    Args:
        root: a folder, which may be a link itself.
        choice: what is left out.
        passed: told of folders that cannot be read and of what is no file: sockets, devices, broken links.
    """
    real = os.path.realpath(root)
    include, exclude = Patterns(choice.include), Patterns(choice.exclude)
    rules = [] if choice.ignored else _rules_above(real)
    stack = [_entries(root, _Folder("", rules, is_included=not choice.include), choice, passed)]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        entry, folder = found
        path = folder.below + entry.name
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
            name = shown_name(path)
            if exclude.verdict(name, is_folder) or _is_ignored(name, is_folder, folder.rules):
                continue
            verdict = include.verdict(name, is_folder)
            is_included = folder.is_included if verdict is None else verdict
            if is_folder and _is_index(entry.path):
                continue  # what was made of texts, perhaps of these
            if is_folder:
                below = _Folder(path + "/", folder.rules, is_included)
                stack.append(_entries(entry.path, below, choice, passed))
            elif is_included and _is_readable(entry, real, passed):
                yield entry.path
        except OSError as error:
            passed.add_unreadable(entry.path, shown_name(entry.path), error.strerror)


@dataclass(frozen=True, slots=True)
class _Rules:
    """Those of one .gitignore; of a path from the walk's root, `above + path[cut:]` is that from where it lies."""

    patterns: Patterns
    above: str
    cut: int


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder: its path from the root, "" or with a slash behind it; the rules that hold there; whether all in it is
    to be read, as far as --include says."""

    below: str
    rules: list[_Rules]
    is_included: bool


def _is_ignored(path: str, is_folder: bool, rules: Sequence[_Rules]) -> bool:
    """As the nearest file that says anything has it."""
    for rule in reversed(rules):
        verdict = rule.patterns.verdict(rule.above + path[rule.cut :], is_folder)
        if verdict is not None:
            return verdict
    return False


def _entries(
    path: str, folder: _Folder, choice: Choice, passed: PassedOver
) -> Iterator[tuple[os.DirEntry[str], _Folder]]:
    """What lies in the folder, by name, but hidden things; each with the folder and the rules that hold there."""
    try:
        with os.scandir(path) as entries:
            found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        passed.add_unreadable(path, shown_name(path), error.strerror)
        return
    if not choice.ignored and any(entry.name == IGNORE_FILE for entry in found):
        patterns = _read_rules(os.path.join(path, IGNORE_FILE))
        if patterns is not None:
            own = _Rules(patterns, "", len(shown_name(folder.below)))
            folder = _Folder(folder.below, [*folder.rules, own], folder.is_included)
    for entry in found:
        if entry.name != ".git" and (choice.hidden or not entry.name.startswith(".")):
            yield entry, folder


def _is_index(folder: str) -> bool:
    """Whether `longspan search` keeps an index there."""
    return all(os.path.isfile(os.path.join(folder, name)) for name in (SETTINGS, DOCUMENTS))


def _is_readable(entry: os.DirEntry[str], root: str, passed: PassedOver) -> bool:
    """Whether it is a file, or a link to one that is not met below `root` by itself."""
    if entry.is_file(follow_symlinks=False):
        return True
    name = shown_name(entry.path)
    if not entry.is_symlink():
        passed.add(name, "no plain file")
    elif entry.is_dir():
        passed.add(name, "a link to a folder")
    elif not entry.is_file():
        passed.add(name, "a broken link")
    else:
        target = os.path.realpath(entry.path)
        return not target.startswith(os.path.join(root, ""))
    return False


def _rules_above(root: str) -> list[_Rules]:
    """Of the .gitignore files between a repository's top and `root`, the top's first; none outside a repository."""
    found: list[_Rules] = []
    folder, above = root, ""
    while not os.path.exists(os.path.join(folder, ".git")):
        parent = os.path.dirname(folder)
        if parent == folder:
            return []
        above = f"{shown_name(os.path.basename(folder))}/{above}"
        folder = parent
        patterns = _read_rules(os.path.join(folder, IGNORE_FILE))
        if patterns is not None:
            found.insert(0, _Rules(patterns, above, 0))
    return found


def _read_rules(path: str) -> Patterns | None:
    """None where there is no such file, or none that can be read."""
    try:
        with open(path, "rb") as file:
            return Patterns(file.read(_MOST_IGNORE_BYTES).decode("utf-8", "replace").split("\n"))
    except OSError:
        return None

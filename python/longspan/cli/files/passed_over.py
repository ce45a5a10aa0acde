"""What a folder holds and nobody could use: counted by reason, and named at the end, so that it stops no run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from longspan.cli.console.terminal import count
from longspan.documents.kinds import NOUNS, PLURALS

NAMED: Final = 3  # files of a reason that a person is told
TOLD: Final = 8  # reasons
KEPT: Final = 100  # that `--json` lists
_JOINTS: Final = {"cannot ": "that ", "is ": "that ", "no column ": "with "}  # before reasons that begin like this


@dataclass(slots=True)
class PassedOver:
    """Files by the reason why they were left out; those that a .gitignore or an option leaves out do not count."""

    _names: dict[str, list[str]] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)  # paths of files and folders that are there

    def add(self, name: str, reason: str) -> None:
        """Count a file."""
        self._counts[reason] = self._counts.get(reason, 0) + 1
        names = self._names.setdefault(reason, [])
        if len(names) < KEPT:
            names.append(name)

    def add_unreadable(self, path: str, name: str, why: str | None) -> None:
        """Count a file or folder that could not be read this time."""
        self.add(name, f"not readable ({why})")
        self.unreadable.append(path)

    def __len__(self) -> int:
        return sum(self._counts.values())

    def sentence(self) -> str:
        """One line: how many, why, and the first of each reason."""
        reasons = sorted(self._counts, key=lambda reason: (-self._counts[reason], reason))
        parts = [f"{_counted(self._counts[reason], reason)} ({self._first(reason)})" for reason in reasons[:TOLD]]
        parts += [f"and {count(len(reasons) - TOLD, 'reason')} more, which --json lists"] if len(reasons) > TOLD else []
        return f"{count(len(self), 'file')} passed over: {'; '.join(parts)}"

    def as_json(self) -> dict[str, object]:
        """By reason, how many and the names of the first 100."""
        return {reason: {"files": number, "names": self._names[reason]} for reason, number in self._counts.items()}

    def _first(self, reason: str) -> str:
        names = self._names[reason]
        more = ", ..." if self._counts[reason] > NAMED else ""
        return ", ".join(names[:NAMED]) + more


def _counted(number: int, reason: str) -> str:
    """`2 images, and ...`, `1 image, and ...`, `1 that is not ...`, `2 with no ...`."""
    for kind, plural in PLURALS.items():
        if number == 1 and reason.startswith(plural):
            return f"1 {NOUNS[kind].split(' ', 1)[1]}{reason.removeprefix(plural)}"
    joint = "of which " if reason[:1].isdigit() else ""
    joint += next((word for begin, word in _JOINTS.items() if reason.startswith(begin)), "")
    return f"{number:,} {joint}{reason}"


def unknown(name: str) -> str:
    """The reason for a file whose name does not tell what it is."""
    suffixes = [one.lower() for one in PurePath(name).suffixes]
    suffix = "".join(suffixes[-2:] if suffixes[-1:] in ([".gz"], [".zst"]) else suffixes[-1:])
    return f"of unknown kind {suffix}" if suffix else "of unknown kind"

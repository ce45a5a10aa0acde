"""Our docstrings in Sphinx's words: sections to fields, attributes to entries, names in backticks to links."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Source):(?: (.*))?$")
TICKED = re.compile(r"`([^`\n]+)`")
FIELDS = {"Returns": "returns", "Raises": "Errors", "Source": "Source"}


@dataclass(frozen=True)
class Docstring:
    """A docstring in parts.

    Attributes:
        body: its text, line by line.
        items: of "Args" and "Attributes" the names of each entry, and what is said of them.
        prose: what "Returns", "Raises" and "Source" say.
    """

    body: list[str] = field(default_factory=list)
    items: dict[str, list[tuple[list[str], str]]] = field(default_factory=dict)
    prose: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Docstring:
        """`text` as `inspect.getdoc` gives it."""
        parts: dict[str, list[str]] = {"": []}
        current = ""
        for line in text.splitlines():
            begun = SECTION.match(line)
            if begun:
                current = begun[1]
                parts[current] = [begun[2]] if begun[2] else []
            elif current in FIELDS and line and not line.startswith(" "):
                current = ""  # text behind a section
                parts[""].append(line)
            elif current and not line.strip():
                current = ""
                parts[""].append("")
            else:
                parts[current].append(line)
        made = cls(parts.pop(""))
        for name, lines in parts.items():
            if name in FIELDS:
                made.prose[name] = " ".join(line.strip() for line in lines)
            else:
                made.items[name] = list(_entries(lines))
        return made


def _entries(lines: Sequence[str]) -> Iterator[tuple[list[str], str]]:
    """`name, other: what is said`, which may go on in deeper lines."""
    depth = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    joined: list[str] = []
    for line in lines:
        if len(line) - len(line.lstrip()) == depth or not joined:
            joined.append(line.strip())
        else:
            joined[-1] += " " + line.strip()
    for entry in joined:
        names, _, said = entry.partition(":")
        yield [name.strip() for name in names.split(",")], said.strip()


class PublicNames:
    """What has a place in the reference: names as docstrings use them, and where they lead.

    Args:
        documented: full name -> object, of classes and functions.
        elsewhere: names that stand for others, such as an attribute whose class has a page.
    """

    def __init__(self, documented: Mapping[str, object], elsewhere: Mapping[str, str]) -> None:
        self.documented = documented
        self._targets: dict[str, str] = {}
        for full, value in documented.items():
            parts = full.split(".")
            for start in range(len(parts)):
                self._targets.setdefault(".".join(parts[start:]), full)
            if inspect.isclass(value):
                for member in members(value):
                    for start in range(len(parts)):
                        self._targets.setdefault(f"{'.'.join(parts[start:])}.{member}", f"{full}.{member}")
        for name, full in elsewhere.items():
            for member in members(documented[full]):  # type: ignore[arg-type]
                self._targets.setdefault(f"{name}.{member}", f"{full}.{member}")

    def find(self, name: str, owner: type | None, parameters: Sequence[str]) -> str | None:
        """Where `name` leads from a docstring of `owner`, or None: it is an argument, or code."""
        if name in parameters:
            return None
        if owner is not None:
            own = f"{owner.__name__}.{name}"
            if own in self._targets:
                return self._targets[own]
        return self._targets.get(name)


def members(kind: type) -> list[str]:
    """The names of a class that the reference describes: methods and properties with a docstring, listed attributes."""
    entries = Docstring.parse(inspect.getdoc(kind) or "").items.get("Attributes", ())
    listed = [name for names, _ in entries for name in names]
    found = [
        name
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_") and (callable(member) or isinstance(member, property)) and inspect.getdoc(member)
        and not (issubclass(kind, dict) and name in dir(dict))
    ]  # fmt: skip
    return [*listed, *(name for name in found if name not in listed)]


def as_rst(text: str, value: object, owner: type | None, names: PublicNames) -> list[str]:
    """A docstring as reStructuredText.

    Args:
        text: as `inspect.getdoc` gives it.
        value: what it describes.
        owner: the class, of a class or its member.
        names: what may be linked to.
    """
    parsed = Docstring.parse(text)
    parameters = [name for entry, _ in parsed.items.get("Args", ()) for name in entry] + _parameters(value)

    def marked(line: str) -> str:
        return _marked(line, lambda name: names.find(name, owner, parameters))

    lines = list(_body(parsed.body, marked))
    lines.append("")
    for entry, said in parsed.items.get("Args", ()):
        lines += [f":param {name}: {marked(said)}" for name in entry]
    lines += [f":{FIELDS[name]}: {marked(said)}" for name, said in parsed.prose.items()]
    lines.append("")
    for entry, said in parsed.items.get("Attributes", ()):
        for name in entry:
            if not isinstance(getattr(owner, name, None), property):
                lines += [f".. py:attribute:: {name}", *_type(owner, name), "", f"   {marked(said)}", ""]
    return lines


def _parameters(value: object) -> list[str]:
    try:
        return list(inspect.signature(value).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return []


def _type(owner: type | None, name: str) -> list[str]:
    for kind in () if owner is None else owner.__mro__:
        annotations = inspect.get_annotations(kind)
        if name in annotations:
            return [f"   :type: {annotations[name]}"]
    return []


def _body(lines: Sequence[str], marked: Callable[[str], str]) -> Iterator[str]:
    """Paragraphs. Indented ones are code; lines that go on deeper are items of a list."""
    for paragraph in "\n".join(lines).strip("\n").split("\n\n"):
        own = [line for line in paragraph.splitlines() if line.strip()]
        deeper = [line.startswith(" ") for line in own]
        yield ""
        if own and all(deeper):
            yield from ["::", "", *(f"   {line}" for line in textwrap.dedent("\n".join(own)).splitlines())]
        elif any(deeper):
            for line, goes_on in zip(own, deeper, strict=True):
                yield f"{'  ' if goes_on else '* '}{marked(line.strip())}"
        else:
            yield from map(marked, own)


def _marked(line: str, find: Callable[[str], str | None]) -> str:
    """A line with its backticks made links or code, and what would be markup escaped."""
    parts: list[str] = []
    end = 0
    for ticked in TICKED.finditer(line):
        parts.append(_escaped(line[end : ticked.start()]))
        target = find(ticked[1].removesuffix("()"))
        parts.append(f":py:obj:`{ticked[1]} <{target}>`" if target else f"``{ticked[1]}``")
        if line[ticked.end() : ticked.end() + 1].isalnum():
            parts.append("\\ ")
        end = ticked.end()
    return "".join([*parts, _escaped(line[end:])])


def _escaped(text: str) -> str:
    text = re.sub(r"([\\*|])", r"\\\1", text)
    return re.sub(r"(\w)_(?!\w)", r"\1\\_", text)

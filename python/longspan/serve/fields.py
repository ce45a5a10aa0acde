"""The fields of a body, each checked as it is read; what nobody read is counted, and otherwise ignored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from longspan.serve.errors import RequestError, invalid

C = TypeVar("C", bound=str)
SHOWN: Final = 120  # characters of a value that messages show
AS_JSON: Final = {"None": "null", "True": "true", "False": "false"}


def shown(value: object) -> str:
    """A value in a message, cut; what JSON calls otherwise than Python, as JSON does."""
    text = AS_JSON.get(repr(value)) or repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


class Fields:
    """A JSON object. Null is as good as absent. A method takes a field and its aliases: the first that is there."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self._read: set[str] = set()

    @property
    def ignored(self) -> list[str]:
        """Names of fields that were never asked for."""
        return [name for name in self._values if name not in self._read]

    def any(self, *names: str) -> Any:
        """The value, whatever it is; None where there is none."""
        return self._find(names)[1]

    def named(self, *names: str) -> tuple[str, Any]:
        """The name that the client used, for messages, and the value; the first name and None where there is none."""
        return self._find(names)

    def required(self, *names: str) -> Any:
        """The same; RequestError where there is none."""
        name, value = self._find(names)
        if value is None:
            raise invalid(name, "is missing", None)
        return value

    def string(self, *names: str, default: str | None = None) -> str | None:
        """A string."""
        name, value = self._find(names)
        if value is None:
            return default
        if not isinstance(value, str):
            raise invalid(name, f"must be a string, got {shown(value)}", value)
        return value

    def boolean(self, *names: str, default: bool | None = None) -> bool | None:
        """True or false."""
        name, value = self._find(names)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise invalid(name, f"must be true or false, got {shown(value)}", value)
        return value

    def integer(self, *names: str, least: int = 1, most: int | None = None) -> int | None:
        """A whole number between bounds."""
        name, value = self._find(names)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            value = int(value)  # 256.0, as some clients write it
        if isinstance(value, bool) or not isinstance(value, int):
            raise invalid(name, f"must be a whole number, got {shown(value)}", value)
        if value < least:
            raise RequestError("validation", f"{name} must be at least {least}, got {value}", field=name, value=value)
        if most is not None and value > most:
            raise RequestError("validation", f"{name} must be at most {most}, got {value}", field=name, value=value)
        return value

    def choice(self, names: Sequence[str], choices: Mapping[str, C] | Sequence[C], default: C) -> C:
        """One of several strings; a mapping says what each stands for."""
        name, value = self._find(names)
        if value is None:
            return default
        known: Mapping[str, C] = choices if isinstance(choices, Mapping) else {each: each for each in choices}
        if not isinstance(value, str) or value not in known:
            raise invalid(name, f"must be one of {', '.join(map(repr, known))}, got {shown(value)}", value)
        return known[value]

    def object(self, *names: str) -> Fields:
        """An object inside; an empty one where there is none."""
        name, value = self._find(names)
        if value is None:
            return Fields({})
        if not isinstance(value, dict):
            raise invalid(name, f"must be an object, got {shown(value)}", value)
        return Fields(value)

    def has(self, *names: str) -> bool:
        """Whether there is a value."""
        return self._find(names)[1] is not None

    def skip(self, *names: str) -> None:
        """Fields that are known and change nothing."""
        self._read.update(names)

    def _find(self, names: Sequence[str]) -> tuple[str, Any]:
        """The name that was used, and the value."""
        self._read.update(names)
        for name in names:
            if (value := self._values.get(name)) is not None:
                return name, value
        return names[0], None


def text_list(name: str, value: object) -> list[str]:
    """One string or a list of them, as a list."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise invalid(name, f"must be a string or a list of strings, got {shown(value)}", value)
    for place, item in enumerate(value):
        if not isinstance(item, str):
            raise invalid(f"{name}[{place}]", f"must be a string, got {shown(item)}", item)
    return value


def text_of(name: str, value: object) -> str:
    """A string, or the text of an object that has one."""
    text = value.get("text") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise invalid(name, f"must be a string, or an object with text, got {shown(value)}", value)
    return text


def is_ids(value: object) -> bool:
    """Whether it is a list of whole numbers, and not empty."""
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)

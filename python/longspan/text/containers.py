"""What holds a caller's inputs: anything with an order of its own, and nothing whose items are not the inputs; texts
are str that UTF-8 can hold."""

from __future__ import annotations

from collections.abc import KeysView, Mapping, Set
from typing import Protocol, runtime_checkable


@runtime_checkable
class _Arrow(Protocol):
    """An array of pyarrow's, whose items are scalars of its own."""

    def to_pylist(self) -> list[object]: ...


def listed(name: str, given: object, of: str = "str") -> list[object]:
    """The items of a list, a tuple, an array of str, a generator, an open file, a Series of pandas or polars, or an
    array of pyarrow's; `name` begins the messages, `of` says what is wanted.

    Raises: TypeError, it is one str, or it would give what nobody means: a frame its columns, a mapping its keys, a
        set its items in any order.
    """
    if type(given) in (list, tuple):
        return list(given)  # type: ignore[call-overload]  # what it nearly always is: the rest takes 20 us
    kind = type(given).__name__
    if isinstance(given, Mapping):
        keys, or_one = ", ".join(map(repr, list(given)[:3])), ', or {"text": ...} as one input' if of == "str" else ""
        raise TypeError(
            f"{name} must be a list of {of}, got one {kind} with the keys {keys}; give a list of its values{or_one}"
        )
    if hasattr(given, "columns") or hasattr(given, "column_names"):
        columns = "one of its columns, such as frame['text']"
        if not of.startswith("str"):
            columns = "its columns side by side, such as zip(frame['query'], frame['text'])"
        raise TypeError(f"{name} must be a list of {of}, got one {kind}; give {columns}")
    if isinstance(given, Set) and not isinstance(given, KeysView):
        raise TypeError(f"{name} must be a list of {of}, got one {kind}, which has no order; give sorted(...) of it")
    is_one = isinstance(given, (str, bytes, bytearray, type)) or getattr(given, "ndim", 1) == 0
    if is_one or not hasattr(given, "__iter__"):
        raise TypeError(f"{name} must be a list of {of}, got one {kind}")
    if isinstance(given, _Arrow):
        return given.to_pylist()
    return list(given)


def checked_texts(name: str, texts: object, *, caller: str = "encode") -> list[str]:
    """`texts` as a list in which everything is a str that UTF-8 can hold; `caller` begins the messages."""
    checked: list[str] = listed(f"{caller}: {name}", texts)  # type: ignore[assignment]  # each is looked at below
    for index, text in enumerate(checked):
        if not isinstance(text, str):
            raise TypeError(f"{caller}: {name}[{index}] must be a str, got {type(text).__name__}")
        if not text.isascii():
            _refuse_surrogates(f"{caller}: {name}[{index}]", text)
    return checked


def _refuse_surrogates(name: str, text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} has a lone surrogate (U+{ord(text[error.start]):04X}) at position {error.start}, which is "
            f"no character; repair it with text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')"
        ) from None

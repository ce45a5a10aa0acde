"""Public docstrings: what they name in backticks exists, and the reference has a page for every public name."""

from __future__ import annotations

import builtins
import functools
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import longspan
from longspan import relations

DOCS = Path(__file__).parents[1] / "python" / "docs"
TICKED = re.compile(r"`([A-Za-z_][\w.]*)(?:\(\))?`")


def public() -> Iterator[tuple[str, object, type | None]]:
    """Name, object and class of everything that users call."""
    found = {name: getattr(longspan, name) for name in longspan.__all__ if name not in ("__version__", "ops")}
    found |= {f"ops.{name}": getattr(longspan.ops, name) for name in longspan.ops.__all__}
    found |= {f"relations.{name}": getattr(relations, name) for name in relations.__all__}
    for name, value in found.items():
        owner = value if inspect.isclass(value) else None
        yield name, value, owner
        for key, member in inspect.getmembers(owner) if owner else ():
            if not key.startswith("_") and not hasattr(dict, key):
                if isinstance(member, property):
                    yield f"{name}.{key}", member.fget, owner
                elif callable(member):
                    yield f"{name}.{key}", member, owner


PUBLIC = {name: (value, owner) for name, value, owner in public()}


def parameters(value: object) -> set[str]:
    """A function's arguments, those of its TypedDicts too."""
    try:
        named = inspect.signature(value).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return set()
    unpacked = re.findall(r"Unpack\[(\w+)\]", " ".join(str(one.annotation) for one in named.values()))
    module = sys.modules[value.__module__]
    return {*named, *(key for name in unpacked for key in getattr(module, name).__annotations__)}


@functools.cache
def attributes(owner: type) -> set[str]:
    """What instances have, set in any __init__ or listed in the class's docstring."""
    found: set[str] = set(re.findall(r"^\s+(\w+)(?:, \w+)*: ", inspect.getdoc(owner) or "", re.MULTILINE))
    for kind in owner.__mro__:
        found |= {*vars(kind), *vars(kind).get("__annotations__", {})}
        if "__init__" in vars(kind) and kind is not object:
            try:
                source = textwrap.dedent(inspect.getsource(kind.__init__))  # type: ignore[misc]
            except (OSError, TypeError):
                continue
            found |= set(re.findall(r"self\.([a-z]\w*)", source))
    return found


def reached(base: object, parts: list[str]) -> bool:
    """Whether there is such an attribute, of a class an instance's too."""
    for place, part in enumerate(parts):
        if inspect.isclass(base) and place == len(parts) - 1:
            return part in attributes(base)
        base = getattr(base, part, None)
    return base is not None


def exists(name: str, value: object, owner: type | None, mentioned: list[str]) -> bool:
    """Whether `name` is an argument, a member or something public, or an argument of something the text mentions."""
    first, *rest = name.split(".")
    if hasattr(builtins, first) or first in parameters(value):
        return True
    if first == "spec" and rest:
        return rest[0] in attributes(longspan.ModelSpec)
    if owner is not None and first in attributes(owner):
        return True
    named = (getattr(base, other, None) for other in mentioned for base in (owner, longspan.ops, longspan))
    if any(name in parameters(other) for other in named if other is not None):
        return True
    bases = (longspan, longspan.ops, relations, sys.modules.get(getattr(value, "__module__", "")))
    if any(reached(base, [first, *rest]) for base in bases):
        return True
    home, _, last = name.rpartition(".")
    return home.startswith("longspan") and reached(importlib.import_module(home), [last])


@pytest.mark.parametrize("name", PUBLIC)
def test_what_a_docstring_names_exists(name: str) -> None:
    value, owner = PUBLIC[name]
    text = inspect.getdoc(value) or ""
    ticked = TICKED.findall(text)
    assert [word for word in ticked if not exists(word, value, owner, ticked)] == []


def test_every_public_name_has_a_page() -> None:
    pages = "\n".join(page.read_text("utf-8") for page in DOCS.glob("api/*.rst"))
    described = set(re.findall(r"auto\w+:: longspan\.([\w.]+)", pages))
    wanted = {name for name, (value, owner) in PUBLIC.items() if owner in (None, value) and callable(value)}
    assert wanted == described


@pytest.mark.parametrize("name", [name for name, (value, owner) in PUBLIC.items() if owner is value])
def test_fields_are_documented(name: str) -> None:
    """Every public field of a result is in its class's docstring."""
    value, _ = PUBLIC[name]
    is_record = hasattr(value, "__dataclass_fields__") or hasattr(value, "__total__")
    fields = set(inspect.get_annotations(value)) if is_record else set()  # type: ignore[arg-type]
    if value is longspan.RankedText:  # a TypedDict has its bases' fields as its own
        fields -= set(longspan.RankedDocument.__annotations__)
    text = inspect.getdoc(value) or ""
    if name == "ModelSpec":  # a file of its own, a remark behind each
        return
    listed = {word for line in re.findall(r"^\s+([\w, ]+): ", text, re.MULTILINE) for word in re.split(r", ?", line)}
    assert [field for field in sorted(fields) if not field.startswith("_") and field not in listed] == []

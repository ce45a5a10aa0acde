"""Names of arguments: one that is misspelt is answered with the one that was meant."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Final, TypeVar, cast

T = TypeVar("T", bound=object)

_UNPACKED: Final = ("Unpack[", "typing_extensions.Unpack[")


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is most like it; None where none is as like as `cutoff`, from 0 to 1."""
    near = difflib.get_close_matches(name.lower(), sorted(known), 1, cutoff=cutoff)
    return near[0] if near else None


def refuse_unknown(caller: str, given: Iterable[str], known: Iterable[str]) -> None:
    """TypeError for a name that is not known, with the known one that is most like it."""
    names = sorted(known)
    for name in given:
        if name not in names:
            near = nearest(name, names)
            hint = f"did you mean {near!r}?" if near else f"there are {', '.join(names) or 'none'}"
            raise TypeError(f"{caller}: there is no argument {name!r}; {hint}")


def names_arguments(what: T) -> T:
    """A decorator of a function, or of a class for its constructor and public methods: a keyword argument that there is
    not is a TypeError that names the nearest one, and none is passed over in silence."""
    if not inspect.isclass(what):
        function = cast("Callable[..., object]", what)
        return cast(T, _checked(function, is_method=function.__name__ == "__init__"))
    for name, member in list(vars(what).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(member, classmethod | staticmethod):
            setattr(what, name, type(member)(_checked(member.__func__, is_method=isinstance(member, classmethod))))
        elif inspect.isfunction(member):
            setattr(what, name, _checked(member, is_method=True))
    return what


def _checked(function: Callable[..., object], *, is_method: bool = False) -> Callable[..., object]:
    known = _known(function)
    if known is None:
        return function

    @functools.wraps(function)
    def wrapped(*args: object, **given: object) -> object:
        if not known.issuperset(given):
            refuse_unknown(_caller(function, args if is_method else ()), given, known)
        return function(*args, **given)

    return wrapped


def _caller(function: Callable[..., object], args: tuple[object, ...]) -> str:
    """Whose argument it is, as the caller knows it: a method by the class that was asked, not the one that has it."""
    name = function.__name__
    if not args:
        return function.__qualname__
    kind = args[0] if isinstance(args[0], type) else type(args[0])
    return kind.__name__ if name == "__init__" else f"{kind.__name__}.{name}"


def _known(function: Callable[..., object]) -> frozenset[str] | None:
    """The names that it takes by keyword; None where it takes any, or sees to them itself."""
    if hasattr(function, "__wrapped__"):
        return None
    parameters = inspect.signature(function).parameters.values()
    named = [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    if named[:1] in (["self"], ["cls"]):
        del named[0]
    rest = next((one for one in parameters if one.kind == one.VAR_KEYWORD), None)
    if rest is None:
        return frozenset(named)
    said = str(rest.annotation)
    if not said.startswith(_UNPACKED):
        return None
    options = function.__globals__[said.partition("[")[2].removesuffix("]")]
    return frozenset([*named, *options.__annotations__])

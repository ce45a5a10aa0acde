"""Where vectors come from: the model that made them, so that vectors of two models never meet unnoticed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from longspan.errors import OriginWarning, warn_caller


@dataclass(frozen=True, slots=True)
class Origin:
    """The model behind vectors.

    Attributes:
        fingerprint: as `Encoder.fingerprint`.
        dtype: what products were computed in.
    """

    fingerprint: str
    dtype: str

    def __post_init__(self) -> None:
        """Both are strings, as in the files that keep them."""
        if not (isinstance(self.fingerprint, str) and isinstance(self.dtype, str)):
            got = f"{type(self.fingerprint).__name__} and {type(self.dtype).__name__}"
            raise TypeError(f"Origin: fingerprint and dtype must be str, got {got}")

    def to_json(self) -> dict[str, str]:
        """What `from_json` takes."""
        return {"fingerprint": self.fingerprint, "dtype": self.dtype}

    @classmethod
    def from_json(cls, value: object) -> Origin | None:
        """None for null. Raises: ValueError, it is not what `to_json` gives."""
        if value is None:
            return None
        names = ("fingerprint", "dtype")
        if not isinstance(value, Mapping) or not all(isinstance(value.get(name), str) for name in names):
            raise ValueError(f"'origin' must be null or hold the strings fingerprint and dtype, got {value!r}")
        return cls(value["fingerprint"], value["dtype"])


def check_added(where: str, kept: Origin | None, added: Origin | None) -> None:
    """Before vectors of `added` stand beside those of `kept`; None is not known, and passes.

    Raises: ValueError, another model made them. Warns (OriginWarning), the same model in another compute type did.
    """
    _check(where, added)
    if kept is None or added is None:
        return
    if kept.fingerprint != added.fingerprint:
        raise ValueError(
            f"{where}: the vectors are of another model ({added.fingerprint}) than those that are there "
            f"({kept.fingerprint}), and cannot be compared with them; take that model, or begin anew"
        )
    _note_dtype(where, kept, added)


def check_asked(where: str, kept: Origin | None, asked: Origin | None) -> None:
    """Before `kept` is asked with vectors of `asked`. Warns (OriginWarning), another model made them."""
    _check(where, asked)
    if kept is None or asked is None:
        return
    if kept.fingerprint != asked.fingerprint:
        warn_caller(
            f"{where}: asked with vectors of another model ({asked.fingerprint}) than those that are there "
            f"({kept.fingerprint}): scores mean nothing",
            OriginWarning,
        )
    else:
        _note_dtype(where, kept, asked)


def _check(where: str, origin: object) -> None:
    if not isinstance(origin, Origin | None):
        raise TypeError(f"{where}: origin must be an Origin, such as a model's `.origin`, got {type(origin).__name__}")


def _note_dtype(where: str, kept: Origin, other: Origin) -> None:
    if kept.dtype != other.dtype:
        warn_caller(
            f"{where}: the same model, but computed in {other.dtype} here and in {kept.dtype} there; values differ a "
            f"little",
            OriginWarning,
        )

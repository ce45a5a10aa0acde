"""longspan inside other frameworks, one module each, such as `longspan.integrations.langchain`.

A module imports its framework when it is imported itself, so `import longspan` knows none of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, TypeVar

from longspan.encoder import Encoder
from longspan.multi_vector import MultiVectorEncoder
from longspan.reranker import Reranker
from longspan.sparse_encoder import SparseEncoder

# What other libraries call arguments of ours.
PEER_OPTIONS: Final = {"torch_dtype": "dtype", "cache_folder": "cache_dir"}

M = TypeVar("M")
E = TypeVar("E", Encoder, MultiVectorEncoder, Reranker, SparseEncoder)


def missing(extra: str, error: ImportError) -> ImportError:
    """The ImportError of an integration whose framework is not there, or is another version."""
    return ImportError(f"this part of longspan is an extra: pip install 'longspan[{extra}]' ({error})")


def opened(
    model: E | str | os.PathLike[str],
    kind: type[E],
    function: str,
    *,
    device: str | None = None,
    revision: str | None = None,
    options: Mapping[str, object] | None = None,
) -> E:
    """`model`, or the one that it names, opened with the options: further arguments of `kind` in `options`, which may
    have sentence-transformers' and transformers' names.

    Raises: TypeError, naming `function`, if it is neither, or is open and there are options; and what `kind` raises.
    """
    if isinstance(model, kind):
        if options:
            names = ", ".join(options)
            raise TypeError(f"{function}: {names} are for a model that is opened here, and this one is open already")
        return model
    if not isinstance(model, (str, os.PathLike)):
        got = type(model).__name__
        raise TypeError(f"{function}: model must be a longspan {kind.__name__}, a folder or a name, got {got}")
    given = {PEER_OPTIONS.get(name, name): value for name, value in (options or {}).items()}
    return kind(model, **{"device": device, "revision": revision, **given})  # type: ignore[arg-type]


def one_model(function: str, model: M | None, model_name: str | None) -> M | str:
    """The one of the two that is given. TypeError, naming `function`, where both are, or neither."""
    if model is not None and model_name is None:
        return model
    if model is None and model_name is not None:
        return model_name
    got = "neither" if model is None else "both"
    raise TypeError(f"{function}: give the model as model or as model_name, got {got}")


def engine_options(encoder: Encoder | MultiVectorEncoder | Reranker | SparseEncoder) -> dict[str, object]:
    """What opens the same checkpoint in the same way in another process."""
    return encoder.opened_with


def refuse(where: str, options: Mapping[str, object], advice: str) -> None:
    """ValueError if a framework hands over options that mean nothing here; None stands for one that is not used."""
    used = sorted(name for name, value in options.items() if value is not None)
    if used:
        raise ValueError(f"{where}: {', '.join(used)} cannot be used with longspan; {advice}")

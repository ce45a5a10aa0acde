"""The argument names of sentence-transformers' `encode`, for code that was written for it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Final, TypeVar, cast

from longspan.arguments import refuse_unknown
from longspan.pipeline.inputs import MODALITIES, is_one
from longspan.pipeline.options import EncodeOptions
from longspan.vectors.results import Result

R = TypeVar("R", bound=Result)

TEXT_NAMES: Final = ("sentences", "inputs")  # up to 5, and from 6 on
PEER_NAMES: Final = frozenset({*TEXT_NAMES, "chunk_size", "pool", "device", "convert_to_numpy"})


def takes_peer_names(encode: Callable[..., R]) -> Callable[..., R]:
    """Let `encode`, a method of an encoder, take what only sentence-transformers' has.

    sentences, inputs: the texts, by name.
    convert_to_numpy: True is what we do; False gives a list of torch tensors, unless convert_to_tensor asks for one.
    device: None or the encoder's own, which is chosen when it is made.
    pool, chunk_size: of processes; None. Without a pool its chunk_size means nothing there either.

    Raises: TypeError, texts are given twice; ValueError, another device or a pool.
    """

    code = encode.__code__
    own_names = code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
    known = {*own_names, *(EncodeOptions.__annotations__ if code.co_flags & inspect.CO_VARKEYWORDS else ())}
    known_or_peers = known | PEER_NAMES

    @functools.wraps(encode)
    def wrapped(*args: object, **options: object) -> object:
        if not known_or_peers.issuperset(options):
            refuse_unknown(encode.__qualname__, options.keys() - PEER_NAMES, known)
        for name in TEXT_NAMES:
            if name in options:
                if "texts" in options or len(args) > 1:
                    raise TypeError(f"encode: texts and {name} are the same argument; give one of them")
                options["texts"] = options.pop(name)
        options.pop("chunk_size", None)
        if options.pop("pool", None) is not None:
            raise ValueError("encode: pool must be None: longspan runs its own threads; see num_threads of Encoder")
        device = options.pop("device", None)
        own = args[0].device  # type: ignore[attr-defined]
        if device is not None and str(device) != own:
            raise ValueError(f"encode: device must be None or the encoder's own, {own!r}, got {str(device)!r}")
        as_list = not options.pop("convert_to_numpy", True) and not options.get("convert_to_tensor")
        if as_list:
            options["convert_to_tensor"] = True
        reads = getattr(args[0], "modalities", MODALITIES[:1])
        alone = is_one(args[1] if len(args) > 1 else options.get("texts"), reads)
        result = encode(*args, **options)
        return list(result) if as_list and not alone else result

    return cast(Callable[..., R], wrapped)

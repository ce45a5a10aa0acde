"""Features of one tower for several tasks: the tower sees each input once, and connectors make of it what each task
reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

Media = TypeVar("Media")
# Of different inputs, connectors and the inputs' places: for each input (tokens, len(connectors) * width), the
# connectors' side by side.
Compute = Callable[[Sequence[Media], Sequence[int], Sequence[int] | None], list[np.ndarray]]


def by_connector(
    media: Sequence[Media], connectors: Sequence[int], compute: Compute[Media], places: Sequence[int] | None = None
) -> list[np.ndarray]:
    """For each input (tokens, width) of its connector, in order. One that comes several times is computed once, at the
    first of its `places`."""
    first = {id(one): number for number, one in reversed([*enumerate(media)])}
    order = sorted(first.values())
    distinct = {id(media[number]): place for place, number in enumerate(order)}
    used, at = sorted(set(connectors)), None if places is None else [places[number] for number in order]
    assert not used or used[0] >= 0  # -1 is no task: whoever places features has seen to it
    found = compute([media[number] for number in order], used, at) if order else []
    if len(used) == 1:
        return [found[distinct[id(one)]] for one in media]
    columns = {number: place for place, number in enumerate(used)}
    return [
        np.ascontiguousarray(np.split(found[distinct[id(one)]], len(used), axis=1)[columns[number]])
        for one, number in zip(media, connectors, strict=True)
    ]

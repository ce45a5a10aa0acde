"""Features of one tower for several tasks: the tower sees each input once, and connectors make of it what each task
reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

Media = TypeVar("Media")
# Of different inputs and connectors: for each input (tokens, len(connectors) * width), the connectors' side by side.
Compute = Callable[[Sequence[Media], Sequence[int]], list[np.ndarray]]


def by_connector(media: Sequence[Media], connectors: Sequence[int], compute: Compute[Media]) -> list[np.ndarray]:
    """For each input (tokens, width) of its connector, in order. One that comes several times is computed once."""
    distinct = list({id(one): one for one in media}.values())
    places = {id(one): place for place, one in enumerate(distinct)}
    used = sorted(set(connectors))
    found = compute(distinct, used) if distinct else []
    if len(used) == 1:
        return [found[places[id(one)]] for one in media]
    columns = {number: place for place, number in enumerate(used)}
    return [
        np.ascontiguousarray(np.split(found[places[id(one)]], len(used), axis=1)[columns[number]])
        for one, number in zip(media, connectors, strict=True)
    ]

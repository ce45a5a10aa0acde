"""Which requests are here together."""

from __future__ import annotations

import math
import time
from typing import Final

from longspan.serve.http import Scope

LONELY_AFTER: Final = 0.02  # seconds without company


class Company:
    """Tells a lone client, which asks again and again on one connection or now and then, from several at once.

    Clients that take turns are company too: while one's answer is written the other's texts could be computed, and
    those that come together share a batch.
    """

    def __init__(self) -> None:
        self._here = 0
        self._last: object = None  # whose request was the last
        self._ended = -math.inf
        self._was_company = -math.inf  # the last time

    def enter(self, scope: Scope) -> bool:
        """A request comes. Returns: whether it is alone."""
        now, client = time.monotonic(), scope.get("client")
        self._here += 1
        is_same = client is not None and client == self._last  # those of a Unix socket have no names
        if self._here > 1 or (not is_same and now - self._ended < LONELY_AFTER):
            self._was_company = now
        self._last = client
        return now - self._was_company > LONELY_AFTER

    def leave(self) -> None:
        """And ends."""
        self._ended = time.monotonic()
        self._here -= 1
        if self._here:
            self._was_company = self._ended

"""The tokenizers library in forked children, where its threads are gone."""

from __future__ import annotations

import functools
import os


@functools.cache
def stay_serial_in_forks() -> None:
    """Keep the library serial there, without a warning on stderr.

    Left alone it goes serial by itself, but versions before 0.22.2 complain unless TOKENIZERS_PARALLELISM is set when
    the child starts; told to run in parallel it would wait for ever for threads that the fork did not take along. So
    the child is always told "false"; where the user has set nothing, from the moment before the fork on.
    """
    name = "TOKENIZERS_PARALLELISM"
    ours: list[bool] = []

    def before() -> None:
        if name not in os.environ:
            os.environ[name] = "false"
            ours.append(True)

    def after_in_parent() -> None:
        if ours:
            ours.clear()
            os.environ.pop(name, None)

    def after_in_child() -> None:
        os.environ[name] = "false"

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=before, after_in_parent=after_in_parent, after_in_child=after_in_child)

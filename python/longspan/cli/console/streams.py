"""Standard streams: what is typed or piped into one, and those that a caller has closed (`<&-`, `>&-`, `2>&-`): a run
does its work all the same, or says so."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TextIO

from longspan.cli.console.failures import CommandError

_PROMPT = "? "


def open_closed_streams() -> None:
    """Let messages and results that nobody can have go nowhere, so that the command does not fail for want of a place
    to say something, and no file of ours gets the number of a stream that others write to."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # for the whole process


def standard_input() -> TextIO:
    """What a command reads for `-`. Raises: CommandError, the caller has closed it."""
    if _is_closed(sys.stdin):
        raise CommandError("standard input is closed; name a file")
    return sys.stdin


def typed_lines() -> Iterator[str]:
    """Lines of standard input as they come, blank ones left out; a person is prompted."""
    lines = _prompted() if standard_input().isatty() else _piped(standard_input())
    return (line.strip() for line in lines if line.strip())


def _piped(stream: TextIO) -> Iterator[str]:
    """UTF-8, whatever the locale: it comes from a program, not from a person's keyboard."""
    buffer = getattr(stream, "buffer", None)
    if buffer is None:  # of a caller in the same process
        yield from iter(stream.readline, "")
        return
    for number, line in enumerate(iter(buffer.readline, b""), 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            what = f"byte 0x{line[error.start]:02x} at position {error.start}"
            raise CommandError(f"standard input:{number}: not UTF-8: {what}") from error


def _prompted() -> Iterator[str]:
    while True:
        try:
            yield input(_PROMPT)
        except EOFError:
            print()
            return


def require_standard_output() -> None:
    """CommandError, if the caller has closed what the result is to go to."""
    if _is_closed(sys.stdout):
        raise CommandError("standard output is closed; name an output file")


def _is_closed(stream: TextIO) -> bool:
    return getattr(stream, "name", None) == os.devnull  # a redirected stream keeps a name of its own

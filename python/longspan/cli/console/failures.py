"""How a subcommand ends early: an error in one sentence, or a stop from outside."""

from __future__ import annotations

from typing import NoReturn


class CommandError(ValueError):
    """What the user asked for cannot be done; the text is the whole message."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C or a signal, with what became of the work so far."""

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def describe(error: BaseException) -> str:
    """The error in the user's words: no errno, and no class name unless there is nothing else."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError) and not str(error):
        return "out of memory; a smaller --batch-tokens needs less"
    return str(error) or type(error).__name__


def end_with(error: BaseException, fate: str) -> NoReturn:
    """Raise the error again, what became of the work behind its sentence; bugs stay as they are."""
    if isinstance(error, KeyboardInterrupt):
        exit_code = error.exit_code if isinstance(error, Stopped) else 130
        raise Stopped(f"{str(error) or 'interrupted'}; {fate}", exit_code) from error
    if isinstance(error, OSError | ValueError | MemoryError):
        raise CommandError(f"{describe(error)}; {fate}") from error
    raise error

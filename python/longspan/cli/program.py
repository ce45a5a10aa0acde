"""The command's frame: the table of subcommands, the parser, exit codes, and errors as one sentence."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import FrameType
from typing import Protocol, TextIO, cast

from longspan.arguments import nearest
from longspan.cli.console.failures import Stopped, describe
from longspan.cli.console.parser import CommandParser
from longspan.cli.console.streams import open_closed_streams
from longspan.errors import BackendError

OK, FAILED, USAGE, INTERRUPTED, TERMINATED, BROKEN_PIPE = 0, 1, 2, 130, 143, 141


@dataclass(frozen=True, slots=True)
class Command:
    """One subcommand: its name, the module that holds it, and its line in `longspan --help`."""

    name: str
    module: str
    summary: str


class CommandModule(Protocol):
    """What a subcommand's module defines; it is imported only when its command is the one asked for."""

    def configure(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> None: ...


COMMANDS = (
    Command("embed", "longspan.cli.embed", "turn text, JSONL, CSV or Parquet into vectors in a file"),
    Command("chunk", "longspan.cli.chunk", "cut documents into chunks, with a vector each, in a file"),
    Command("rerank", "longspan.cli.rerank", "order documents by how well they answer a query"),
    Command("search", "longspan.cli.search.command", "build an index of texts or vectors, and ask it"),
    Command("retro", "longspan.cli.retro.command", "vectors for a database's text values, from meaning and relations"),
    Command("serve", "longspan.cli.serve", "serve models over HTTP, for OpenAI's clients and many others"),
    Command("info", "longspan.cli.info", "show this installation, or what a model is and how it would run"),
    Command("bench", "longspan.cli.bench", "measure kernels and models on this machine, beside others"),
    Command("demo", "longspan.cli.demo", "ask questions of the Python reference, or of your own files"),
)

PREFIX = "LONGSPAN_"  # of environment variables
SETTINGS = ("LONGSPAN_ISA", "LONGSPAN_BACKEND", "LONGSPAN_GPU_PRODUCT", "LONGSPAN_DEBUG", "LONGSPAN_API_KEY")

DESCRIPTION = "Embed text with our own kernels: Hugging Face checkpoints as published, no PyTorch needed on a CPU."
EXAMPLES = """\
examples:
  longspan demo
  longspan info sentence-transformers/all-MiniLM-L6-v2
  longspan embed sentence-transformers/all-MiniLM-L6-v2 notes.txt -o notes.npy
  longspan search build notes.index *.md --model sentence-transformers/all-MiniLM-L6-v2
  longspan search query notes.index what did we decide about the budget

`longspan COMMAND --help` explains each command. LONGSPAN_DEBUG=1 shows the traceback of an error.

exit codes: 0 done, 1 error (one sentence on stderr), 2 usage, 130 Ctrl-C.
"""


class ShowVersion(argparse.Action):
    """`--version`, reading the version only when it is asked for."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        from longspan import __version__

        print(f"longspan {__version__}")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, by default the process's own, and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    open_closed_streams()
    for stream in (sys.stdout, sys.stderr):  # an ASCII terminal shows \\u00e9 where it would have failed
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with _plain_warnings(), _sigterm_as_exception():
            _warn_of_settings()
            return _run(arguments)
    except SystemExit as stop:  # argparse: --help, --version, usage errors
        return stop.code if isinstance(stop.code, int) else FAILED
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the last flush at exit fails again
        return BROKEN_PIPE
    except KeyboardInterrupt as stop:
        _say(str(stop) or "interrupted")
        return stop.exit_code if isinstance(stop, Stopped) else INTERRUPTED
    except (ValueError, OSError, ImportError, MemoryError, BackendError) as error:
        if os.environ.get("LONGSPAN_DEBUG", "0") not in ("", "0"):
            raise
        _say(f"error: {describe(error)}")
        return FAILED


def parser_for(asked: str | None) -> tuple[CommandParser, CommandModule | None]:
    """The parser of all; of the commands the one that is asked for has its options, and its module is imported."""
    parser = CommandParser("longspan", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("--version", action=ShowVersion, nargs=0, help="print the version and leave")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command: CommandModule | None = None
    for entry in COMMANDS:
        child = subparsers.add_parser(entry.name, help=entry.summary)
        if entry.name == asked:
            command = cast(CommandModule, import_module(entry.module))
            command.configure(child)
    return parser, command


def _run(arguments: list[str]) -> int:
    """Parse, import the one command asked for, and run it."""
    parser, command = parser_for(next((word for word in arguments if not word.startswith("-")), None))
    args = parser.parse_args(arguments)
    assert command is not None, "argparse accepted a command that is not in COMMANDS"
    command.run(args)
    sys.stdout.flush()  # here, where a broken pipe is still handled
    return OK


def _warn_of_settings() -> None:
    """Name environment variables that look like one of ours, misspelt."""
    known = [name.removeprefix(PREFIX).lower() for name in SETTINGS]
    for name in (name for name in os.environ if name.startswith(PREFIX) and name not in SETTINGS):
        if (near := nearest(name.removeprefix(PREFIX), known)) is not None:
            meant = f"{PREFIX}{near.upper()}"
            warnings.warn(f"the environment variable {name} is none of longspan's; did you mean {meant}?", stacklevel=2)


def _say(message: str) -> None:
    from longspan.cli.console.terminal import shown  # where there is something to say

    with contextlib.suppress(OSError):  # stderr closed: there is nobody to tell
        print(f"longspan: {shown(message)}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show warnings as `longspan: warning: text`, without the line of code that raised them."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        _say(f"warning: {message}")

    with warnings.catch_warnings():
        if not sys.warnoptions:  # python -W is obeyed
            warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


@contextlib.contextmanager
def _sigterm_as_exception() -> Iterator[None]:
    """Let `kill` and batch schedulers unwind the stack as Ctrl-C does, so that temporary files go."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Stopped("terminated", TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)

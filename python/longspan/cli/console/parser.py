"""The parser of every command: help within 80 columns, the short form of it first, and alone with `-h`."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from longspan.arguments import nearest
from longspan.cli.console.terminal import shown

WIDEST: Final = 80
NARROWEST: Final = 40
EXAMPLES: Final = "examples:"
SHORT_EXAMPLES: Final = 3

_COLUMNS = re.compile(r"\s*\S.*?\s{2,}(?=\S)")  # a name and what is said of it, in columns
_COMMENT = re.compile(r"\s{2,}# ")
_WORD = r"""(?:[^\s"']|"[^"]*"|'[^']*')+"""
_WORDS = re.compile(rf"-\S+ (?![-|<>]){_WORD}|{_WORD}")  # an option stays with its value
_USAGE = re.compile(r"\[[^\]]*\]|\([^)]*\)|\S+")


class CommandParser(argparse.ArgumentParser):
    """Writes what it is for, then examples, then all the rest. `-h` leaves the rest out.

    A description's first paragraph says what the command does; an epilog may begin with "examples:", a line each.
    """

    _is_intermixed = False

    def __init__(self, *args: object, **options: object) -> None:
        options = {"formatter_class": HelpFormatter, **options, "add_help": False}
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.add_argument("-h", action=_ShortHelp, nargs=0, help="show the first lines of this help")
        self.add_argument("--help", action="help", help="show all of it")

    def parse_known_args(  # type: ignore[override]  # argparse overloads it for other namespaces, which nobody gives
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse's own; but an option that there is not is said first, before what is missing for want of it, and
        words may stand behind options too, as in `embed MODEL -o out.npy notes.txt`."""
        words = list(sys.argv[1:] if args is None else args)
        has_commands = self._subparsers is not None
        for word in words:
            if word == "--" or (has_commands and not word.startswith("-")):
                break  # what follows is no option, or a command's own
            self._check_option(word)
        found = super().parse_known_args(words, namespace)
        if not found[1] or has_commands or self._is_intermixed:
            return found
        self._is_intermixed = True  # what is called now calls this again
        try:
            return self.parse_known_intermixed_args(words)
        finally:
            self._is_intermixed = False

    def _check_option(self, word: str) -> None:
        name = word.partition("=")[0]
        if (
            not name.startswith("--")
            or " " in name
            or any(known.startswith(name) for known in self._option_string_actions)
        ):
            return
        near = nearest(name, [known for known in self._option_string_actions if known.startswith("--")])
        self.error(f"there is no option {shown(name)}" + (f"; did you mean {near}?" if near else ""))

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """As argparse's own, with the choice that was meant."""
        choices = [str(choice) for choice in action.choices or ()]
        if choices and str(value) not in choices and (near := nearest(str(value), choices)):
            raise argparse.ArgumentError(action, f"invalid choice: {str(value)!r}; did you mean {near!r}?")
        super()._check_value(action, value)

    def format_help(self) -> str:
        """All of it: the short form first."""
        first, details = _parted(self.description)
        examples, remarks = _examples(self.epilog)
        formatter = self._begun(first, examples)
        formatter.add_text(details)
        self._add_groups(formatter, self._action_groups)
        formatter.add_text(remarks)
        return formatter.format_help()

    def format_short_help(self) -> str:
        """What it is for, some examples, and what must be given."""
        first, _ = _parted(self.description)
        examples, _ = _examples(self.epilog)
        formatter = self._begun(first, examples[:SHORT_EXAMPLES])
        needed = [action for action in self._actions if action.required or not action.option_strings]
        formatter.start_section("what must be given")
        formatter.add_arguments(needed)
        formatter.end_section()
        formatter.add_text(f"`{self.prog} --help` says all, with every option.")
        return formatter.format_help()

    def _begun(self, first: str, examples: Sequence[str]) -> argparse.HelpFormatter:
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(first)
        formatter.add_text("\n".join([EXAMPLES, *examples]) if examples else "")
        return formatter

    @staticmethod
    def _add_groups(formatter: argparse.HelpFormatter, groups: Sequence[argparse._ArgumentGroup]) -> None:
        for group in groups:
            formatter.start_section(group.title)
            formatter.add_text(group.description)
            formatter.add_arguments(group._group_actions)
            formatter.end_section()


class HelpFormatter(argparse.HelpFormatter):
    """Lines of 80 columns at most. Texts keep their paragraphs and columns; commands go on behind a backslash."""

    def __init__(self, prog: str, *args: object, **options: object) -> None:
        columns = min(shutil.get_terminal_size((WIDEST, 24)).columns or WIDEST, WIDEST)
        super().__init__(prog, *args, **{**options, "width": max(columns, NARROWEST)})  # type: ignore[arg-type]

    def _format_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[argparse._MutuallyExclusiveGroup],
        prefix: str | None,
    ) -> str:
        if usage is None:
            return super()._format_usage(usage, actions, groups, prefix)
        lines, begun = ["usage:"], len("usage:")
        for word in _USAGE.findall(usage):
            if len(lines[-1]) + len(word) + 1 > self._width:
                lines.append(" " * begun)
            lines[-1] += " " + word
        return "\n".join(lines) + "\n\n"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(_wrapped(text.splitlines(), width))


class _ShortHelp(argparse.Action):
    """`-h`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        assert isinstance(parser, CommandParser)
        print(parser.format_short_help(), end="")
        parser.exit()


def _parted(description: str | None) -> tuple[str, str]:
    """The first paragraph, and the rest."""
    first, _, rest = (description or "").strip().partition("\n\n")
    return first, rest


def _examples(epilog: str | None) -> tuple[list[str], str]:
    """The lines under "examples:", and the rest."""
    text = (epilog or "").rstrip()
    if not text.startswith(EXAMPLES):
        return [], text
    listed, _, rest = text.partition("\n\n")
    return listed.splitlines()[1:], rest


def _wrapped(lines: Sequence[str], width: int) -> Iterator[str]:
    """The lines, each at most `width` long: paragraphs filled anew, what stands in columns under its column."""
    place = 0
    while place < len(lines):
        line = lines[place]
        place += 1
        if not line.strip():
            yield ""
            continue
        if _is_command(line):
            yield from _command(line, width)
            continue
        hanging = _hanging(line)
        while place < len(lines) and lines[place].strip() and _indent(lines[place]) == hanging:
            if _is_command(lines[place]) or (hanging and _COLUMNS.match(lines[place])):
                break
            line += " " + lines[place].strip()
            place += 1
        head, body = line[:hanging], line[hanging:]
        yield from textwrap.wrap(
            body, width, initial_indent=head, subsequent_indent=" " * hanging, break_on_hyphens=False
        )


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _hanging(line: str) -> int:
    """Where the text of a line begins: behind its indentation, or in its second column."""
    columns = _COLUMNS.match(line) if _indent(line) else None
    return columns.end() if columns else _indent(line)


def _is_command(line: str) -> bool:
    return _indent(line) > 0 and re.match(r"\s*(longspan |.*\| longspan )", line) is not None


def _command(line: str, width: int) -> Iterator[str]:
    """A command that a shell takes as it stands; a remark behind it goes before it."""
    indent = " " * _indent(line)
    command, *remarks = _COMMENT.split(line.strip(), maxsplit=1)
    if len(line) <= width:
        yield line
        return
    for remark in remarks:
        yield from textwrap.wrap(remark, width, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
    first, *words = _WORDS.findall(command)
    written = indent + first
    for word in words:
        if len(written) + len(word) + 3 > width:  # a space before it, and room for what goes on
            yield written + " \\"
            written = indent + "   "
        written += " " + word
    yield written

"""The help of every command: within 80 columns, the short form first, examples that are right."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator

import pytest

from longspan.cli.console.parser import CommandParser
from longspan.cli.program import COMMANDS, main, parser_for


def parsers(parser: argparse.ArgumentParser, *names: str) -> Iterator[tuple[tuple[str, ...], CommandParser]]:
    """A parser and those of its subcommands."""
    assert isinstance(parser, CommandParser), names
    yield names, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                if names or name == asked:
                    yield from parsers(child, *names, name)


ALL: dict[str, CommandParser] = {}
for asked in (entry.name for entry in COMMANDS):
    ALL |= {" ".join(names): found for names, found in parsers(parser_for(asked)[0])}


def test_all_commands_are_looked_at() -> None:
    assert set(ALL) >= {
        "",
        *(entry.name for entry in COMMANDS),
        "search build",
        "search query",
        "retro run",
        "bench run",
    }


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("name", ALL)
def test_help_fits_80_columns(name: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for text in (ALL[name].format_help(), ALL[name].format_short_help()):
        assert [line for line in text.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("name", ALL)
def test_the_short_form_comes_first(name: str) -> None:
    short, whole = ALL[name].format_short_help(), ALL[name].format_help()
    beginning = re.split(r"what must be given:|^`longspan", short, maxsplit=1, flags=re.MULTILINE)[0].strip()
    assert whole.startswith(beginning)
    assert len(short.splitlines()) <= 40
    assert f"`{ALL[name].prog} --help` says all" in short
    assert ("what must be given" in short) == any(
        action.required or not action.option_strings for action in ALL[name]._actions
    )


@pytest.mark.parametrize("name", ["", "embed", "search query"])
def test_both_are_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "-h"]) == 0
    assert capsys.readouterr().out == ALL[name].format_short_help()
    assert main([*name.split(), "--help"]) == 0
    assert capsys.readouterr().out == ALL[name].format_help()


def examples() -> Iterator[str]:
    for parser in ALL.values():
        listed = parser.format_help().partition("examples:\n")[2].partition("\n\n")[0].replace("\\\n", " ")
        for line in listed.splitlines():
            yield from re.findall(r"(?:^|\| )\s*(longspan [^|>]*)", line)


@pytest.mark.parametrize("example", sorted(set(examples())))
def test_examples_are_commands(example: str) -> None:
    words = shlex.split(example, comments=True)[1:]
    parser, _ = parser_for(words[0])
    assert parser.parse_args(words)

"""The `longspan` command: one file a subcommand, each listed in `program.COMMANDS`."""

from __future__ import annotations

from longspan.cli.program import main

__all__ = ["main"]

"""The work of `longspan search delete`: documents out of an index, by key, path or glob."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from longspan.cli.console.failures import CommandError
from longspan.documents.alone import alone
from longspan.documents.folder import delete_documents, load_index, read_settings
from longspan.documents.ledger import Ledger, key_of_path

DESCRIPTION = """\
Delete documents from an index.

A document is named by its key, which `longspan search query --json` prints: its
path from the folder that holds the index, with the line or page behind it, or
what `build --key` took. A file or folder means all that was read of it, and a
glob as in a .gitignore all that match. Paths from here will do.
"""
EPILOG = """\
examples:
  longspan search delete notes.index notes/old.md
  longspan search delete notes.index 'drafts/*.md' attic/ --dry-run
"""


@dataclass(frozen=True, slots=True)
class DeleteRequest:
    """What `longspan search delete` was asked for; each field is an option of that name."""

    index: str
    patterns: tuple[str, ...]
    dry_run: bool


@dataclass(frozen=True, slots=True)
class DeleteSummary:
    """What was deleted, as `--json` prints it."""

    index: str
    deleted: int  # documents
    passages: int
    documents: int  # passages in the index now
    keys: list[str]


def delete(request: DeleteRequest) -> DeleteSummary:
    """Delete what the patterns mean, or find out what that would be.

    Raises: FileNotFoundError, there is no index; CommandError, a pattern means nothing: then nothing is deleted.
    """
    folder = Path(os.path.realpath(request.index))
    read_settings(folder)
    with alone(folder, request.index):
        index = load_index(folder)
        if index is None:
            raise CommandError(f"{request.index} holds nothing yet")
        ledger = Ledger.read(folder, index)
        found: dict[str, list[int]] = {}
        for pattern in request.patterns:
            path = key_of_path(pattern, folder) if pattern else None
            if not (matching := ledger.matching(pattern, path)):
                raise CommandError(f"{request.index} holds no document that {pattern!r} means; nothing was deleted")
            found |= matching
        ids = [id for some in found.values() for id in some]
        if not request.dry_run:
            delete_documents(folder, index, ids)
    left = len(index) - (len(ids) if request.dry_run else 0)
    return DeleteSummary(request.index, len(found), len(ids), left, sorted(found))

"""The query and documents of the rerankers' tests."""

from __future__ import annotations

QUERY = "how do I reset a forgotten password"
DOCUMENTS = [
    "To reset a forgotten password, open the sign-in page.",
    "The licence covers the source form.",
    "",
    "def reset(user): user.hash = None",
    "To reset a forgotten password, open the sign-in page.",
]
PAIRS = [(QUERY, document) for document in DOCUMENTS]

"""The golden databases of RETRO: made from their scripts, with the vectors that belong to them."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from longspan.relations import Plan, Relation

FOLDER = Path(__file__).parent / "golden" / "retro"
NAMES = ("library", "staff", "quirks")

# A process that writes a large result to the place that it is told, and is killed meanwhile.
KILLED = """
import sys
import numpy as np
from longspan.relations import Plan, Retrofitted
from longspan.relations.plan import Column
from longspan.relations.settings import make_settings
n = 200_000
plan = Plan([Column("t", "c", 0, n)], [f"text {i:06}" for i in range(n)], [])
vectors = np.full((n, 48), 2, np.float32)
settings = make_settings("rn", 1, 0, 3, None, None, "anchor", 1e-6)
print("ready", flush=True)
Retrofitted(plan, vectors, vectors, settings, 10, 0.0).save(sys.argv[1], force=True)
"""


@dataclass(frozen=True, slots=True)
class Golden:
    """What is known of one database."""

    name: str
    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @classmethod
    def read(cls, name: str) -> Golden:
        """From the files of this name."""
        facts = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        with np.load(FOLDER / f"{name}.npz") as arrays:
            return cls(name, facts, dict(arrays))

    def encode(self, texts: list[str]) -> np.ndarray:
        """(n, d) base vectors: an encoder that knows these texts alone."""
        return self.arrays["text_vectors"][self.places(texts)]

    def places(self, texts: list[str]) -> list[int]:
        """Where each text lies in the golden arrays."""
        at = {text: place for place, text in enumerate(self.facts["texts"])}
        return [at[text] for text in texts]

    def base(self, plan: Plan, run: str) -> np.ndarray:
        """Base vectors of a plan's nodes as this run had them."""
        places = self.places(plan.texts)
        base = self.arrays["text_vectors"][places]
        if run.startswith("missing/"):
            base[np.isin(places, self.arrays["missing_texts"])] = np.nan
        if run.startswith("unnormalised/"):
            base = base * self.arrays["scale"][places, None].astype(np.float32)
        return base


def script(name: str) -> str:
    """The SQL of one golden."""
    return (FOLDER / f"{name}.sql").read_text(encoding="utf-8")


def make(path: Path, *scripts: str) -> Path:
    """A SQLite file in which these scripts have run."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    for each in scripts:
        connection.executescript(f"BEGIN; {each}; COMMIT")
    connection.commit()
    connection.close()
    return path


def as_golden(relations: list[Relation]) -> set[tuple[object, ...]]:
    """Our relations in a form to compare."""
    return {
        (
            relation.kind,
            relation.source,
            relation.target,
            None if relation.kind == "row" else (relation.table, relation.columns, relation.columns2),
            frozenset(map(tuple, relation.pairs.tolist())),
        )
        for relation in relations
    }


def from_golden(relations: list[dict[str, Any]]) -> set[tuple[object, ...]]:
    """Golden relations in the same form."""
    return {
        (
            relation["kind"],
            tuple(relation["source"]),
            tuple(relation["target"]),
            None
            if relation["via"] is None
            else (
                relation["via"]["table"],
                tuple(relation["via"]["columns"]),
                tuple(relation["via"].get("columns2", ())),
            ),
            frozenset(map(tuple, relation["edges"])),
        )
        for relation in relations
    }

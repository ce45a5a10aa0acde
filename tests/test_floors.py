"""What pyproject.toml asks for: floors that pins can be made of, and extras that bring what their code imports."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOWEST = runpy.run_path(str(ROOT / ".ci" / "lowest.py"))
PROJECT = (ROOT / "pyproject.toml").read_text("utf-8")
EXTRAS = re.findall(
    r"^([\w-]+) = \[", PROJECT.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0], re.M
)


def test_the_runtime_is_four_packages() -> None:
    names = [pin.partition("==")[0] for pin in LOWEST["pins"]([], (3, 11))]
    assert names == ["huggingface-hub", "numpy", "tokenizers", "tqdm"]


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_extra_has_floors(extra: str) -> None:
    asked = [one for one in LOWEST["requirements"]([extra]) if "==" not in one and not one.startswith("longspan[")]
    assert all(LOWEST["FLOOR"].match(one) for one in asked), asked
    assert all(re.fullmatch(r"[\w.-]+==[\d.]+", pin) for pin in LOWEST["pins"]([extra], (3, 11)))


def test_a_newer_python_has_the_first_wheels_for_it() -> None:
    assert "numpy==1.24" in LOWEST["pins"]([], (3, 11))
    assert "numpy==2.1.0" in LOWEST["pins"]([], (3, 13))


def test_vector_databases_brings_no_database() -> None:
    """Its helpers import NumPy and nothing else."""
    assert list(LOWEST["_listed"](PROJECT, "vector-databases")) == []
    source = (ROOT / "python" / "longspan" / "integrations" / "vector_databases.py").read_text("utf-8")
    imported = set(re.findall(r"^\s*(?:from|import) (\w+)", source, re.MULTILINE))
    assert imported <= {"__future__", "collections", "typing", "numpy", "longspan"}

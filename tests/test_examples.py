"""The programs in python/examples run as they are; small checkpoints of the families stand for published models."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import pytest

from longspan.checkpoint import hub
from test_guides import MODELS

EXAMPLES = sorted((Path(__file__).parents[1] / "python" / "examples").glob("*.py"))
NEEDS = {"serve_openai.py": ("openai", "uvicorn", "orjson", "starlette")}


def test_there_are_ten() -> None:
    assert len(EXAMPLES) >= 10


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(
    example: Path, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in NEEDS.get(example.name, ()):
        pytest.importorskip(module)
    resolve = hub.resolve

    def local(name: object, **options: object) -> Path:
        return golden / MODELS[str(name)] if str(name) in MODELS else resolve(name, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(hub, "resolve", local)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(example), run_name="__main__")
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_what_it_is(example: Path) -> None:
    title, _, rest = (ast.get_docstring(ast.parse(example.read_text("utf-8"))) or "").partition("\n\n")
    assert title.endswith(".")
    assert rest

"""The documentation's own code: docstrings become fields and links, guides their pages. `make docs` builds it all."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

import longspan

DOCS = Path(__file__).parents[1] / "python" / "docs"


def module(name: str) -> ModuleType:
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(DOCS))


build, docstrings = module("build"), module("docstrings")

TEXT = """Does it, 2 * x | y.

    y = f(x)

a: one rule
    that goes on
See `encode`, `texts` and `nowhere`.

Args:
    texts, more: of `dim`
        values.
Returns: (n,) f32.
Raises: ValueError, no.
"""


def test_a_docstring_becomes_fields_and_links() -> None:
    names = build.public_names()
    lines = docstrings.as_rst(TEXT, longspan.Encoder.encode, longspan.Encoder, names)
    assert "Does it, 2 \\* x \\| y." in lines
    assert lines[lines.index("::") + 2] == "   y = f(x)"
    assert "* a: one rule" in lines
    assert "  that goes on" in lines
    [see] = [line for line in lines if "See" in line]
    assert ":py:obj:`encode <longspan.Encoder.encode>`" in see
    assert "``texts``" in see  # an argument
    assert "``nowhere``" in see
    said = "of :py:obj:`dim <longspan.Encoder.dim>` values."
    assert [f":param {name}: {said}" for name in ("texts", "more")] == [line for line in lines if ":param" in line]
    assert ":returns: (n,) f32." in lines
    assert ":Errors: ValueError, no." in lines


def test_listed_attributes_are_entries_with_types() -> None:
    text = longspan.Chunks.__doc__ or ""
    lines = docstrings.as_rst(text.replace("\n    ", "\n"), longspan.Chunks, longspan.Chunks, build.public_names())
    place = lines.index(".. py:attribute:: embeddings")
    assert lines[place + 1] == "   :type: FloatArray"
    assert set(docstrings.members(longspan.Chunks)) >= {"embeddings", "spans", "texts", "to_arrow", "to_pandas"}


def test_every_guide_and_example_has_a_page(tmp_path: Path) -> None:
    build.stage(tmp_path / "source")
    pages = build.guides()
    assert len(pages) >= 15
    for page in pages.values():
        text = (tmp_path / "source" / f"{page}.md").read_text("utf-8")
        outside = build.FENCE.sub("", text)
        assert len([line for line in outside.splitlines() if line.startswith("# ")]) == 1, page
        for _, target, _ in build.LINK.findall(outside):
            assert (tmp_path / "source" / f"{page}.md").parent.joinpath(target).exists() or "://" in target, target
    examples = (tmp_path / "source" / "examples.md").read_text("utf-8")
    assert examples.count("```python") >= 10


def test_a_link_that_leads_nowhere_stops_it() -> None:
    guide = DOCS.parents[1] / "README.md"
    with pytest.raises(SystemExit, match="README.md links to nowhere.md, which is not there"):
        build.linked("[a](nowhere.md)", guide, "readme", build.guides())
    assert build.linked("[a](LICENSE)", guide, "readme", build.guides()) == "a (`LICENSE`)"


def test_it_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Sphinx and the theme are: `make docs`."""
    for name in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(name)
    monkeypatch.setattr(sys, "argv", ["build.py", "--out", str(tmp_path / "site")])
    assert build.main() == 0
    assert (tmp_path / "site" / "index.html").exists()

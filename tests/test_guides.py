"""The README and the guides: every block of Python in them runs, in order, file by file; every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from longspan.checkpoint import hub

ROOT = Path(__file__).parents[1]
GUIDES = sorted(
    path
    for path in (ROOT / "README.md", *ROOT.glob("*/README.md"), *ROOT.glob("python/longspan/**/README.md"))
    if "golden" not in path.parts
)
# What stands for a published model here: its family's small checkpoint.
MODELS = {
    "sentence-transformers/all-MiniLM-L6-v2": "bert-minilm",
    "jinaai/jina-embeddings-v2-small-en": "jina-v2-en",
    "jinaai/jina-embeddings-v3": "jina-v3",
    "jinaai/jina-colbert-v2": "jina-colbert-v2",
    "jinaai/jina-clip-v2": "jina-clip-v2/model",
    "jinaai/jina-embeddings-v4": "jina-v4/model",
    "jinaai/jina-embeddings-v5-omni-nano": "jina-v5-omni-nano/model",
    "jinaai/jina-embeddings-v5-omni-small": "jina-v5-omni-small/model",
    "cross-encoder/ms-marco-MiniLM-L6-v2": "rerank-bert/model",
    "naver/splade-cocondenser-ensembledistil": "splade-bert/model",
    "BAAI/bge-m3": "bge-m3/model",
}
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)\)")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("guide", [path for path in GUIDES if BLOCK.search(path.read_text("utf-8"))], ids=named)
def test_the_code_of_a_guide_runs(
    guide: Path, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    resolve = hub.resolve

    def local(name: object, **options: object) -> Path:
        return golden / MODELS[str(name)] if str(name) in MODELS else resolve(name, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(hub, "resolve", local)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "guide"}
    absent = []
    for block in BLOCK.findall(guide.read_text("utf-8")):
        try:
            exec(compile(block, guide.name, "exec"), names)
        except ImportError as error:
            if "is an extra: pip install" not in str(error):
                raise
            absent.append(str(error))
    if absent:
        pytest.skip(f"{len(absent)} blocks need what is not installed: {absent[0]}")


@pytest.mark.parametrize("guide", [*GUIDES, *sorted(ROOT.glob("*.md"))], ids=named)
def test_links_lead_somewhere(guide: Path) -> None:
    for target in LINK.findall(guide.read_text("utf-8")):
        assert (guide.parent / target).exists(), f"{guide.name} links to {target}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120

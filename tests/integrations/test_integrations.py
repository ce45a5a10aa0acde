"""What every integration shares: no framework is imported unasked, and a missing one is named with its extra."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import longspan
from longspan.integrations.checkpoint_copy import copy_checkpoint

# module, the framework's top package, the extra that brings it
FRAMEWORKS = [
    ("ray_example", "ray", "ray"),
    ("haystack", "haystack", "haystack"),
    ("haystack_sparse", "haystack", "haystack"),
    ("langchain", "langchain_core", "langchain"),
    ("langchain_sparse", "langchain_qdrant", "langchain-qdrant"),
    ("llama_index", "llama_index", "llama-index"),
    ("llama_index_sparse", "llama_index", "llama-index"),
    ("mteb", "mteb", "mteb"),
    ("mteb_multi_vector", "mteb", "mteb"),
    ("ray_serve", "ray", "ray-serve"),
    ("sentence_transformers", "sentence_transformers", "sentence-transformers"),
    ("sentence_transformers_multi_vector", "sentence_transformers", "sentence-transformers"),
    ("sentence_transformers_reranker", "sentence_transformers", "sentence-transformers"),
    ("sentence_transformers_sparse", "sentence_transformers", "sentence-transformers"),
]


@pytest.mark.parametrize("module, package, extra", FRAMEWORKS)
def test_a_missing_framework_is_named_with_its_extra(module: str, package: str, extra: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import longspan.integrations.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"ImportError: this part of longspan is an extra: pip install 'longspan[{extra}]' (")


def test_every_integration_is_listed_above() -> None:
    folder = Path(longspan.__file__).parent / "integrations"
    own = {
        "__init__",
        "checkpoint_copy",
        "late_chunks",
        "sentence_transformers_module",
        "text_embedding",
        "text_reranking",
        "text_sparse",
    }
    need_none = {"pylate", "ray", "vector_databases"}  # a framework: they speak its language without it
    assert {path.stem for path in folder.glob("*.py")} - own - need_none == {module for module, _, _ in FRAMEWORKS}


def test_a_checkpoint_is_copied_without_what_it_does_not_need(tmp_path: Path) -> None:
    wanted = ["config.json", "model.safetensors", "1_Pooling/config.json", "LICENSE", "README.md", "vocab.txt"]
    others = ["pytorch_model.bin", "onnx/config.json", "custom_st.py", ".git/config.json", "model.h5"]
    for name in wanted + others:
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    target = tmp_path / "target"
    copy_checkpoint(tmp_path / "source", target)
    copy_checkpoint(target, target)
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()) == sorted(wanted)
    assert all((target / name).read_text() == name for name in wanted)
    for inside in (target / "deeper", tmp_path):
        with pytest.raises(ValueError, match="and the model's own folder .* must not lie in each other"):
            copy_checkpoint(target, inside)

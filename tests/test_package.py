"""The package as a whole: what an import costs and pulls in, which way imports point, what the stub says."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import longspan
from longspan import _core

PACKAGE = Path(longspan.__file__).parent
VOCABULARY = {"longspan.ops.activations"}  # names alone, which kernels take from their ops


def run(code: str, **env: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **env}, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def test_import_pulls_in_nothing_heavy() -> None:
    code = "import sys; {}; print([name for name in {!r} if name in sys.modules])"
    assert run(code.format("import longspan", ("torch", "numpy", "tokenizers", "tqdm"))) == "[]"
    assert run(code.format("from longspan import Encoder", ("torch", "transformers", "pyarrow", "tqdm"))) == "[]"


def test_public_names_resolve() -> None:
    for name in longspan.__all__:
        assert getattr(longspan, name) is not None
    assert set(longspan.__all__) <= set(dir(longspan))
    with pytest.raises(AttributeError, match="module 'longspan' has no attribute 'nonsense'"):
        longspan.nonsense  # noqa: B018


PUBLIC = [
    "BackendError",
    "BinaryIndex",
    "CheckpointError",
    "Chunks",
    "Encoder",
    "FusedResult",
    "IndexFileError",
    "IndexInfo",
    "ModelOutputs",
    "ModelSpec",
    "MultiVectorEncoder",
    "MultiVectorStore",
    "Origin",
    "OriginWarning",
    "PdfPage",
    "Ranked",
    "RankedDocument",
    "RankedText",
    "Reranker",
    "RescoredResult",
    "SearchResult",
    "SparseEncoder",
    "SparseIndex",
    "SparseInfo",
    "SparseResult",
    "SparseVectors",
    "StoreInfo",
    "StoreResult",
    "TokenPlaces",
    "TokenizedText",
    "TruncationWarning",
    "fuse_ranks",
    "fuse_scores",
    "ops",
    "quantize_embeddings",
]
PUBLIC_OPS = [
    "attention_varlen",
    "binarize",
    "hamming",
    "hamming_topk",
    "layer_norm",
    "linear",
    "maxsim",
    "maxsim_pairs",
    "maxsim_topk",
    "multi_lora",
    "pack_linear",
    "pool_mean",
    "rescore",
    "rms_norm",
    "span_mean",
]
PUBLIC_MODULES = [
    "cli",
    "demo",
    "kernels",
    "ops",
    "reference",
    "search",
    "integrations.haystack",
    "integrations.langchain",
    "integrations.llama_index",
    "integrations.mteb",
    "integrations.mteb_multi_vector",
    "integrations.pylate",
    "integrations.ray",
    "integrations.ray_example",
    "integrations.sentence_transformers",
    "integrations.sentence_transformers_module",
    "integrations.sentence_transformers_multi_vector",
    "integrations.vector_databases",
]


def test_no_public_name_is_lost() -> None:
    assert set(PUBLIC) <= set(longspan.__all__)
    assert [name for name in PUBLIC_OPS if not callable(getattr(longspan.ops, name, None))] == []
    assert [name for name in PUBLIC_MODULES if importlib.util.find_spec(f"longspan.{name}") is None] == []


def test_public_names_are_documented() -> None:
    public = [(name, getattr(longspan, name)) for name in longspan.__all__ if name != "__version__"]
    public += [(f"ops.{name}", getattr(longspan.ops, name)) for name in longspan.ops.__all__]
    bare = [name for name, value in public if not isinstance(value, (str, int)) and not inspect.getdoc(value)]
    for name, value in public:
        if inspect.isclass(value):
            members = [(key, member) for key, member in inspect.getmembers(value) if not key.startswith("_")]
            bare += [f"{name}.{key}" for key, member in members if callable(member) and not inspect.getdoc(member)]
    assert bare == []


def test_import_is_quick() -> None:
    code = "import time; start = time.perf_counter(); import longspan; print(time.perf_counter() - start)"
    assert min(float(run(code)) for _ in range(3)) < 0.15


def test_an_isa_can_be_forced() -> None:
    assert run("from longspan import _core; print(_core.isa())", LONGSPAN_ISA="portable") == "portable"
    available = ", ".join(_core.available_isas())
    show = "from longspan import _core; print(_core.isa())"
    assert f"must be one of {available}, got 'sse9'" in run(show, LONGSPAN_ISA="sse9")
    other = "neon" if "avx2" in available else "avx2"
    assert f"asks for {other}, which this machine lacks; it has {available}" in run(show, LONGSPAN_ISA=other)


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = ("longspan", *path.relative_to(PACKAGE).with_suffix("").parts)
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports_of(path: Path, known: dict[str, Path], *, everywhere: bool) -> set[str]:
    """The package's modules that this one imports: when it is loaded, or `everywhere`, functions and types included."""
    found = set()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            children = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= children & known.keys() or {node.module}
    return found & known.keys()


def test_imports_make_no_circle() -> None:
    known = modules()
    graph = {name: imports_of(path, known, everywhere=False) for name, path in known.items()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())
    assert len(done) == len(known) > 20


def floors() -> dict[str, int]:
    """Each room's row in CONTRIBUTING's table, counted from the top."""
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("| room | what lives there |\n| --- | --- |\n")[2].partition("\n\n")[0]
    rows = [re.findall(r"`(\w+)`", row.split("|")[1]) for row in table.splitlines()]
    return {room: row for row, rooms in enumerate(rows) for room in rooms}


def kernels() -> dict[str, Path]:
    """The Triton kernels of a checkout, which are installed as a room of their own."""
    return {f"longspan.kernels.{path.stem}": path for path in (Path(__file__).parents[1] / "kernels").glob("*.py")}


def room_of(module: str) -> str:
    return module.split(".")[1]


def test_a_room_imports_only_what_lies_below_it() -> None:
    known = {name: path for name, path in modules().items() if name != "longspan"} | kernels()
    floor = floors()
    homeless = {room_of(name) for name in known} - floor.keys()
    assert not homeless, f"CONTRIBUTING's table of rooms has no row for {sorted(homeless)}"
    upward = [
        f"{name} -> {other}"
        for name, path in known.items()
        for other in sorted(imports_of(path, known, everywhere=True))
        if room_of(other) != room_of(name) and other not in VOCABULARY and floor[room_of(other)] <= floor[room_of(name)]
    ]
    assert not upward, upward
    absent = [room for room in floor if not list(PACKAGE.glob(f"{room}*"))]
    assert set(absent) <= {"serve", "_cuda"}, absent


@pytest.mark.every_isa
def test_bf16_products_belong_to_a_level(isa: str) -> None:
    assert _core.multiplies_bf16() == (isa in {"avx512_bf16", "amx", "amx_avx512_fp16", "neon_i8mm"})

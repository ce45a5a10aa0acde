"""Peers: told by name where they are absent, and adapters that define what the table says."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bench import peers
from bench.case import Contestant, Setting
from bench.peers import PEERS, AbsentError, Peer, check_names, enter
from bench.peers.subject import Padded, Subject, batched, fastest, pooled
from bench.shapes import LENGTHS, MODELS

SETTING = Setting(threads=1)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_an_adapter_defines_what_the_table_says(peer: Peer) -> None:
    spec = find_spec(peer.module)
    assert spec is not None and spec.origin is not None
    functions = [node for node in ast.parse(Path(spec.origin).read_text()).body if isinstance(node, ast.FunctionDef)]
    public = {node.name: node for node in functions if not node.name.startswith("_")}
    assert set(peer.does) == set(public)
    for node in public.values():
        assert node.args.args[0].arg == "setting" and ast.get_docstring(node)


def test_an_absent_peer_is_named_and_the_others_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    def modules(name: str) -> object:
        if name.endswith(".missing"):
            raise ModuleNotFoundError("No module named 'missing_lib'", name="missing_lib")

        def multiply(setting: Setting, x: int) -> list[Contestant]:
            if name.endswith(".refusing"):
                raise AbsentError("it needs a CUDA device")
            return [Contestant("there", lambda: x)]

        return SimpleNamespace(multiply=multiply)

    table = [Peer(name, (f"{name}-package",), ("multiply",)) for name in ("missing", "refusing", "there")]
    monkeypatch.setattr(peers, "PEERS", [*table, Peer("other", ("other",), ("divide",))])
    monkeypatch.setattr(peers, "import_module", modules)
    contestants, absent = enter("multiply", SETTING, 6)
    assert [each.run() for each in contestants] == [6]
    assert absent == {
        "missing": "missing_lib is not installed: pip install missing-package",
        "refusing": "it needs a CUDA device",
    }
    assert enter("multiply", Setting(1, peers=()), 6) == ([], {})
    assert enter("multiply", Setting(1, peers=("missing",)), 6)[0] == []


def test_a_name_that_is_no_peers_is_refused() -> None:
    check_names(["numpy", "torch"])
    with pytest.raises(ValueError, match="there is no peer 'tensorflow'; there are .*numpy, torch"):
        check_names(["numpy", "tensorflow"])


@pytest.fixture
def subject(golden: Path) -> Subject:
    return Subject.of(golden / "bert-minilm", "mean", 64)


def test_runtimes_that_pad_get_texts_sorted_and_give_them_back_in_order(subject: Subject) -> None:
    seen: list[tuple[int, ...]] = []

    def forward(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        seen.append(ids.shape)
        assert (ids[mask == 0] == 0).all() and mask.sum() > 0
        return mask.sum(1, keepdims=True).astype(np.float32)

    texts = ["one two three four five six", "one", "one two three", "one two"]
    lengths = Padded(subject, forward, 2)(texts)[:, 0]
    assert np.argsort(lengths).tolist() == [1, 3, 2, 0]
    assert len(seen) == 2 and seen[0][1] > seen[1][1]  # the longest texts share a batch


def test_the_quickest_way_is_taken(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("bench.peers.subject.time.perf_counter", lambda: now[0])

    def takes(seconds: float):  # type: ignore[no-untyped-def]
        def embed(texts: object) -> np.ndarray:
            now[0] += seconds
            return np.zeros(1)

        return embed

    assert fastest({"slow": takes(2), "quick": takes(1)}, ["a", "b"])[0] == "quick"
    names = list(batched(subject, {"": lambda ids, mask: ids, "fused": lambda ids, mask: ids}))
    assert names[0] == "batches of 8" and names[-1] == "fused, batches of 32"


def test_pooling_counts_tokens_and_no_padding() -> None:
    hidden = np.array([[[3.0, 0.0], [0.0, 4.0], [100.0, 100.0]]], np.float32)
    mask = np.array([[1, 1, 0]])
    np.testing.assert_allclose(pooled(hidden, mask, "mean"), [[0.6, 0.8]])
    np.testing.assert_allclose(pooled(hidden, mask, "cls"), [[1, 0]])


def test_lengths_are_drawn_from_what_was_measured() -> None:
    for lengths in LENGTHS.values():
        drawn = lengths.draw(4000, 1)
        assert lengths.deciles[0] <= drawn.min() <= drawn.max() <= lengths.deciles[-1]
        assert abs(np.median(drawn) / lengths.deciles[5] - 1) < 0.1
        assert lengths.draw(100, 1, most=10).max() <= 10


def test_shapes_are_those_of_the_models() -> None:
    assert MODELS["MiniLM"].products == {
        "qkv": (384, 1152), "attention_out": (384, 384), "up": (384, 1536), "down": (1536, 384)
    }  # fmt: skip
    assert MODELS["jina-v2"].products["up"] == (768, 6144)  # both halves of the gated MLP
    assert MODELS["qwen3-0.6b"].products["qkv"] == (1024, 4096)  # 16 heads of q, 8 of k and of v, 128 wide

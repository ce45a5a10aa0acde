"""The GPU benches of whole models: the padded peer is right, and a run that must stop keeps what it has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kernel_cases import ON_GPU, torch  # isort: skip  # skips where torch or triton is not installed
from bench.gpu.__main__ import main
from bench.gpu.clock import rounds_within
from bench.gpu.contest import OURS, Row, Setting, contest
from bench.gpu.encode import PADDED, WITHOUT, opened
from bench.gpu.padded import PaddedModel
from bench.results import read_report
from longspan import Encoder

TEXTS = ["a short text", "one that is rather longer than the short one, by some words", "x"]
SETTING = Setting("cpu", dry=True)
off_gpu = pytest.mark.skipif(ON_GPU, reason="the dry run needs the interpreter, which a process with a GPU lacks")


@off_gpu
@pytest.mark.parametrize(
    "family", ["bert-minilm", "jina-v2-en", "jina-v3", "jina-v5-text-small/model", "jina-code/model"]
)
def test_the_padded_peer_computes_what_we_do(family: str, golden: Path) -> None:
    padded = PaddedModel(opened(SETTING, golden / family, "float32"))
    truth = np.asarray(Encoder(golden / family).encode(TEXTS, task="base", prompt="", normalize_embeddings=True))
    np.testing.assert_allclose(padded.encode(TEXTS, batch=2).numpy(), truth, rtol=0, atol=5e-6)


@off_gpu
def test_dry_run(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    assert main(["--dry", "--only", "encode", "--json", str(file)]) == 0
    text = file.read_text()
    assert all(name in text for name in (OURS, PADDED, WITHOUT, "one query", "short", "ragged"))


@off_gpu
def test_a_part_whose_time_is_over_is_told_and_the_rest_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "gpu.json"

    def rows(setting: Setting) -> Iterator[Row]:
        one = torch.ones(1)
        yield from contest(setting, "some first", {OURS: lambda: one}, one, work=1.0, unit="GB/s", limit=0)
        # what a run that is killed here would leave
        assert [result.labels for result in read_report(file).results] == [{"case": "first"}]
        late = replace(setting, until=time.monotonic() - 1)
        yield from contest(late, "some second", {OURS: lambda: one}, one, work=1.0, unit="GB/s", limit=0)

    monkeypatch.setattr("bench.gpu.adapters.rows", rows)
    assert main(["--dry", "--only", "adapters", "--json", str(file)]) == 0
    assert "adapters: out of time before some second; --slower 3 gives" in capsys.readouterr().err
    report = read_report(file)
    assert len(report.results) == 1 and [*report.absent] == ["adapters from some second on"]


def test_rounds_fit_their_time() -> None:
    assert rounds_within(3.0, 0.01, 30) == 30
    assert rounds_within(3.0, 0.5, 30) == 6
    assert rounds_within(3.0, 100.0, 30) == 3 and rounds_within(3.0, 100.0, 2) == 2
    assert rounds_within(1.0, 0.0, 5) == 5

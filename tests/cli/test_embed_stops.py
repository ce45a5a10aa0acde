"""`longspan embed` that is stopped in the middle: nothing half-written, and runs that go on where they stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fake_encoder import MODEL, TEXTS, FakeEncoder, embed, longspan_process, names, vectors_of, write_lines
from longspan import Encoder
from longspan.cli import main
from longspan.vectors.quantize import quantize_embeddings

# ---- what stops a run in the middle


ERRORS = {
    "error: No space left on device": OSError(28, "No space left on device"),
    "error: encode: texts[3] is too long (in the texts from ": ValueError("encode: texts[3] is too long"),
    "error: out of memory; a smaller --batch-tokens needs less": MemoryError(),
    "interrupted": KeyboardInterrupt(),
}


@pytest.mark.parametrize("sentence", ERRORS)
@pytest.mark.parametrize("suffix", ["npy", "jsonl", "parquet"])
def test_an_error_in_the_middle_leaves_nothing(
    fake: FakeEncoder, lines: Path, capsys: pytest.CaptureFixture[str], suffix: str, sentence: str
) -> None:
    out = lines.parent / f"out.{suffix}"
    fake.raises[TEXTS[120]] = ERRORS[sentence]
    assert embed(lines, "-o", out) == (130 if sentence == "interrupted" else 1)
    err = capsys.readouterr().err
    assert err.startswith(f"longspan: {sentence}")
    assert err.endswith(f"; nothing was written to {out}\n")
    assert err.count("\n") == 1
    assert names(lines.parent) == ["in.txt"]


def test_a_bug_is_not_hidden(fake: FakeEncoder, lines: Path, tmp_path: Path) -> None:
    fake.raises[TEXTS[120]] = KeyError("ours")
    with pytest.raises(KeyError, match="ours"):
        embed(lines, "-o", tmp_path / "out.npy")
    assert names(tmp_path) == ["in.txt"]


# Bytes that a file may have: too few for the rows on their way (38 kB); enough for them, but not for the output.
@pytest.mark.parametrize(
    ("suffix", "most"), [("npy", 10_000), ("jsonl", 10_000), ("jsonl", 50_000), ("parquet", 39_000)]
)
def test_a_full_disk_leaves_nothing(lines: Path, suffix: str, most: int) -> None:
    resource = pytest.importorskip("resource")
    out = lines.parent / f"out.{suffix}"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    process = longspan_process("embed", MODEL, lines, "-o", out, preexec_fn=limit)
    assert process.returncode == 1
    assert process.stderr.decode().endswith(f"File too large; nothing was written to {out}\n")
    assert process.stderr.count(b"\n") == 1
    assert names(lines.parent) == ["in.txt"]


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_signals_leave_nothing(tmp_path: Path, number: signal.Signals, code: int, word: str) -> None:
    fifo, out = tmp_path / "in.txt", tmp_path / "out.npy"
    os.mkfifo(fifo)
    words = [sys.executable, "-m", "longspan", "embed", MODEL, str(fifo), "-o", str(out)]
    with (
        subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process,
        open(fifo, "r+b", buffering=0) as writer,
    ):
        writer.write(b"one\n" * 100)  # opened for both: a writer alone would wait for a reader
        _wait_for(lambda: any(name.startswith(".out.npy.partial-") for name in names(tmp_path)), process)
        err = _stopped(process, number)
    assert process.returncode == code
    assert err == f"longspan: {word}; nothing was written to {out}\n"
    assert names(tmp_path) == ["in.txt"]


def _stopped(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """What a process says when it is stopped. A signal right before a waiting read is seen only with the next one."""
    for _ in range(6):
        process.send_signal(number)
        try:
            return process.communicate(timeout=10)[1]
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(f"{number!r} does not stop the process")


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---- resumed runs


def test_a_resumed_run_embeds_only_what_is_missing(
    fake: FakeEncoder, lines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    words = (lines, "-o", out, "--resume", "--precision", "int8", "--keep", "line")
    fake.raises[TEXTS[120]] = KeyboardInterrupt()
    assert embed(*words) == 130
    err = capsys.readouterr().err
    assert err == "longspan: interrupted; 64 rows kept, and the same command goes on from there\n"
    assert names(tmp_path) == [".out.jsonl.partial", "in.txt"]
    fake.raises.clear()
    fake.texts.clear()
    assert embed(*words, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["rows"], summary["resumed_rows"]) == (150, 64)
    assert fake.texts == TEXTS[64:]
    assert names(tmp_path) == ["in.txt", "out.jsonl"]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["line"] for row in rows] == list(range(1, 151))
    expected = quantize_embeddings(vectors_of(TEXTS), "int8")
    np.testing.assert_array_equal(np.array([row["embedding"] for row in rows], np.int8), expected)


def test_a_resumed_run_counts_bad_rows_again(
    fake: FakeEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "in.jsonl", tmp_path / "out.npy"
    good = [json.dumps({"text": text}) for text in TEXTS]
    path.write_text("\n".join(["bad", *good[:100], "bad", *good[100:]]))
    fake.raises[TEXTS[120]] = OSError(28, "No space left on device")
    assert embed(path, "-o", out, "--resume", "--skip-bad") == 1
    assert "No space left on device; 64 rows kept, and the same" in capsys.readouterr().err
    fake.raises.clear()
    assert embed(path, "-o", out, "--resume", "--skip-bad", "--json") == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == 2
    np.testing.assert_array_equal(np.load(out), vectors_of(TEXTS), strict=True)


def test_nothing_is_kept_of_a_run_without_rows(fake: FakeEncoder, lines: Path, tmp_path: Path) -> None:
    fake.raises[TEXTS[0]] = KeyboardInterrupt()
    assert embed(lines, "-o", tmp_path / "out.npy", "--resume") == 130
    assert names(tmp_path) == ["in.txt"]


OTHER_KINDS = {
    "--truncate-dim 8": 'width: [16, "float32"] there, [8, "float32"] now',
    "--task x": 'task: null there, "x" now',
    "--query": 'role: null there, "query" now',
    "--limit 3": "limit: null there, 3 now",
    "--dtype int8": 'dtype: "auto" there, "int8" now',
}


@pytest.mark.parametrize("change", OTHER_KINDS)
def test_other_options_do_not_resume(
    fake: FakeEncoder, lines: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    words = (lines, "-o", lines.parent / "out.npy", "--resume")
    fake.raises[TEXTS[120]] = KeyboardInterrupt()
    assert embed(*words) == 130
    capsys.readouterr()
    assert embed(*words, *change.split()) == 1
    kind = f"holds a run of another kind ({OTHER_KINDS[change]})"
    assert f"{kind}; give the same options and inputs, or delete it to start again" in capsys.readouterr().err


def test_other_inputs_do_not_resume(fake: FakeEncoder, lines: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (lines, "-o", lines.parent / "out.npy", "--resume")
    fake.raises[TEXTS[120]] = KeyboardInterrupt()
    assert embed(*words) == 130
    os.utime(lines, (1, 1))
    capsys.readouterr()
    assert embed(*words) == 1
    assert "holds a run of another kind (state of the inputs: [[" in capsys.readouterr().err


def test_what_changes_no_row_may_change(fake: FakeEncoder, lines: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npy"
    fake.raises[TEXTS[120]] = KeyboardInterrupt()
    assert embed(lines, "-o", out, "--resume") == 130
    fake.raises.clear()
    assert embed(lines, "-o", out, "--resume", "--batch-tokens", "9", "--threads", "1", "--to", "jsonl", "--json") == 0
    assert len(out.read_text().splitlines()) == 150


CHANGES = {
    "tokenizer.json": {"lowercase": False},
    "1_Pooling/config.json": {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True},
}


@pytest.mark.parametrize("file", CHANGES)
def test_another_tokenizer_or_pooling_does_not_resume(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever shapes a vector is in the model's fingerprint, and that is in the state of a stopped run."""
    model = tmp_path / "model"
    shutil.copytree(MODEL, model, ignore=shutil.ignore_patterns("expected.npz"))
    lines = write_lines(tmp_path / "in.txt")
    encode = Encoder.encode

    def stops(self: Encoder, texts: object, **options: object) -> object:
        if TEXTS[120] in texts:  # type: ignore[operator]
            raise KeyboardInterrupt
        return encode(self, texts, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Encoder, "encode", stops)
    words = ["embed", str(model), str(lines), "-o", str(tmp_path / "out.npy"), "--resume"]
    assert main(words) == 130
    monkeypatch.undo()
    before = (model / file).read_text("utf-8")
    changed = json.loads(before)
    changed.get("normalizer", changed).update(CHANGES[file])
    (model / file).write_text(json.dumps(changed), "utf-8")
    assert main(words) == 1
    assert "the model's fingerprint" in capsys.readouterr().err
    (model / file).write_text(before, "utf-8")
    assert main(words) == 0

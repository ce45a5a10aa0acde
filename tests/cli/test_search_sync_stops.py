"""`search build --sync` that fails or is killed: the index holds what its files hold, whatever stops it."""

from __future__ import annotations

import itertools
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fake_encoder import MODEL, FakeEncoder
from longspan.cli import main
from longspan.documents import folder as index_folder
from synced_notes import counts, held, summary_of


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    return FakeEncoder.stand_in(monkeypatch, has_roles=False)


def test_a_run_that_fails_goes_on(
    fake: FakeEncoder, notes: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old passages stay until the new ones are all there; what was saved is not embedded again."""
    monkeypatch.setattr(index_folder, "_SECONDS_BETWEEN_SAVES", -1.0)
    for number in range(200):
        Path("notes", f"x{number:03}.md").write_text(f"text {number}")
    words = ("build", "i", "notes", "--whole-file", "--model", MODEL, "--sync")
    summary_of(capsys, *words)
    for number in range(200):
        Path("notes", f"x{number:03}.md").write_text(f"other {number}")
    fake.raises["other 150"] = OSError(28, "No space left on device")
    assert main(["search", *map(str, words)]) == 1
    assert re.search(r"\d+ documents kept, and the same command goes on from there", capsys.readouterr().err)
    texts = held()
    assert all(texts[f"notes/x{number:03}.md#0"] in (f"text {number}", f"other {number}") for number in range(200))
    done = sum(text.startswith("other") for text in texts.values())
    assert 0 < done < 200
    fake.raises.clear()
    fake.texts.clear()
    assert counts(summary_of(capsys, *words)) == (0, 200 - done, done + 6, 0)
    assert len(fake.texts) == 200 - done
    assert all(held()[f"notes/x{number:03}.md#0"] == f"other {number}" for number in range(200))


SYNC = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fake_encoder import FakeEncoder, MODEL
from longspan.cli import main
from longspan.cli.embedding.options import ModelOptions
from longspan.documents import folder
folder._SECONDS_BETWEEN_SAVES = -1.0
encoder = FakeEncoder()
ModelOptions.open = lambda self, model: encoder
encode = encoder.encode
def slowly(texts, **options):
    import time
    time.sleep(0.002 * len(texts))
    return encode(texts, **options)
encoder.encode = slowly
print("ready", flush=True)
sys.exit(main(["search", "build", "i", "notes", "--whole-file", "--model", MODEL, "--sync"]))
"""


def test_killed_at_any_point(notes: Path, tmp_path: Path) -> None:
    """Between the kills files change; in the end the index holds what the files hold, once each."""
    rng = random.Random(7)
    rounds = int(os.environ.get("LONGSPAN_TEST_KILLS", "2"))
    for number, kill in enumerate([*itertools.repeat(True, rounds), False]):
        for _ in range(60):
            path = Path("notes", f"x{rng.randrange(150)}.md")
            if rng.random() < 0.2:
                path.unlink(missing_ok=True)
            else:
                path.write_text(f"text {number} {rng.random()}")
        command = [sys.executable, "-c", SYNC, str(Path(__file__).parents[1])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            if kill:
                time.sleep(rng.uniform(0.1, 0.7))
                process.send_signal(signal.SIGKILL)
            _, err = process.communicate()
        assert kill or process.returncode == 0, err.decode()
    files = {f"notes/{path.name}#0": path.read_text() for path in Path("notes").glob("*.md")}
    files |= {"notes/rows.jsonl:1#0": "row a", "notes/rows.jsonl:2#0": "row b"}
    assert held() == files


@pytest.mark.parametrize("left", [(), ("documents.jsonl",), ("documents.jsonl", "search.json.new")])
@pytest.mark.parametrize("option", [None, "--sync", "--append", "--resume"])
def test_what_a_run_leaves_that_was_killed_at_once(
    option: str | None, left: tuple[str, ...], notes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("i").mkdir()
    for name in left:
        Path("i", name).touch()
    summary = summary_of(capsys, "build", "i", "notes", "--model", MODEL, *([option] if option else []))
    assert counts(summary) == (6, 0, 0, 0) and len(held()) == 6


@pytest.mark.parametrize("name", ["search.json", "documents.jsonl"])
def test_damaged_files(name: str, notes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, whatever is done to a file; never a traceback, and the index is not made worse."""
    for number in range(20):
        Path("notes", f"x{number}.md").write_text(f"text {number}")
    summary_of(capsys, "build", "i", "notes", "--model", MODEL)
    whole = Path("i", name).read_bytes()
    rng = random.Random(3)
    for _ in range(int(os.environ.get("LONGSPAN_TEST_DAMAGES", "30"))):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            kind, place = rng.randrange(4), rng.randrange(len(data))
            if kind == 0:
                data[place] = rng.randrange(256)
            elif kind == 1:
                del data[place : place + rng.randint(1, 40)]
            elif kind == 2:
                data[place:place] = rng.choice([b"0", b'"', b"{", b"[", b"\n", b"null", b"9" * 30, b"\xff"])
            else:
                del data[place:]
        if not data:
            continue
        Path("i", name).write_bytes(data)
        for words in (["query", "i", "words", "--json"], ["delete", "i", "notes/x1.md", "--dry-run"]):
            code = main(["search", *words])
            said = capsys.readouterr()
            assert code in (0, 1) and "Traceback" not in said.err, (bytes(data), said.err)
            assert code == 0 or "longspan: error: " in said.err


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="a small disk needs root")
def test_a_full_disk(notes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], check=False, capture_output=True
    ).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        summary_of(capsys, "build", disk / "i", "notes", "--sync", "--model", MODEL)
        before = held(disk / "i")
        for number in range(600):
            Path("notes", f"x{number}.md").write_text(f"text {number} " + "of many words " * 20)
        assert main(["search", "build", str(disk / "i"), "notes", "--sync"]) == 1
        assert "No space left on device" in capsys.readouterr().err
        assert {key: text for key, text in held(disk / "i").items() if key in before} == before
        for path in Path("notes").glob("x*.md"):
            if int(path.stem[1:]) > 20:
                path.unlink()
        summary = summary_of(capsys, "build", disk / "i", "notes", "--sync")
        assert summary["documents"] == 6 + 21
    finally:
        subprocess.run(["umount", str(disk)], check=True)

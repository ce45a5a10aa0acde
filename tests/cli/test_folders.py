"""Folders as inputs: what is read of them, in which order, what is left out, and what is named at the end."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from fake_encoder import MODEL, FakeEncoder, embed
from longspan.cli import main
from longspan.cli.files import lines
from longspan.cli.files.inputs import Reading, find_inputs
from longspan.cli.files.passed_over import PassedOver
from longspan.cli.files.readers import read_records
from longspan.cli.files.records import BadRow, Record, Selection
from longspan.cli.files.walk import Choice, walk

zstandard = pytest.importorskip("zstandard")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of everything."""
    monkeypatch.chdir(tmp_path)
    files = {
        "b.md": "# Title\n\nWords.\n",
        "a.txt": "line one\nline two\n",
        "c.rst": "Top\n===\n\nText.\n",
        "page.html": "<p>Hello <b>world</b></p>",
        "code/x.py": "def f():\n    pass\n",
        "code/Makefile": "all:\n\techo\n",
        "rows.jsonl": '{"text": "row one"}\n{"body": "no text"}\n',
        "rows.csv": "text\nrow two\n",
        "other.csv": "name\nno such column\n",
        ".hidden/x.md": "hidden",
        ".secret.md": "hidden",
        "build/out.md": "ignored",
        "keep.log": "kept\n",
        "drop.log": "ignored\n",
        ".gitignore": "build/\n*.log\n!keep.log\n",
        "sub/.gitignore": "/only-here.md\n",
        "sub/only-here.md": "ignored",
        "sub/deep/only-here.md": "read",
        "README": "A read me.",
        "notes": "A file without a suffix.",
        "what.xyz": "unknown",
        "package.json": '{"name": "no rows"}',
    }
    for name, text in files.items():
        Path("t", name).parent.mkdir(parents=True, exist_ok=True)
        Path("t", name).write_text(text)
    Path("t/data.bin").write_bytes(b"\x00\x01")
    Path("t/blob").write_bytes(b"\x00\x01")
    Path("t/fake.md").write_bytes(b"\x00binary\x00")
    Path("t/latin.md").write_bytes("caf\xe9".encode("latin-1"))
    Path("t/zipped.md.gz").write_bytes(gzip.compress(b"zipped words"))
    Path("t/PLAIN.gz").write_bytes(gzip.compress(b"plain words in gzip"))
    Path("t/zipped.jsonl.zst").write_bytes(zstandard.compress(b'{"text": "zstd"}\n'))
    Path("t/bad.md.gz").write_bytes(b"not gzip")
    return tmp_path / "t"


def found(root: str | Path, **choice: object) -> list[str]:
    return [os.path.relpath(path, root) for path in walk(str(root), Choice(**choice), PassedOver())]  # type: ignore[arg-type]


def test_what_a_folder_gives(tree: Path, fake: FakeEncoder, capsys: pytest.CaptureFixture[str]) -> None:
    assert embed("t", "-o", "out.jsonl", "--keep", "file", "--json") == 0
    said = capsys.readouterr()
    rows = [json.loads(line)["file"] for line in Path("out.jsonl").read_text().splitlines() if "file" in line]
    assert rows == [
        "t/PLAIN.gz", "t/README", "t/a.txt", "t/a.txt", "t/b.md", "t/c.rst", "t/code/Makefile", "t/code/x.py",
        "t/keep.log", "t/notes", "t/page.html", "t/rows.csv", "t/rows.jsonl", "t/sub/deep/only-here.md",
        "t/zipped.jsonl.zst", "t/zipped.md.gz"
    ]  # fmt: skip
    assert {"row one", "row two", "zstd", "Hello world\n", "zipped words"} <= set(fake.texts)
    passed = json.loads(said.out)["passed_over"]
    assert passed["of unknown kind .bin"] == {"files": 1, "names": ["t/data.bin"]}
    assert passed["of unknown kind .xyz"]["names"] == ["t/what.xyz"] and passed["of unknown kind"]["names"] == [
        "t/blob"
    ]
    assert passed["binary"]["names"] == ["t/fake.md"] and passed["not UTF-8 text"]["names"] == ["t/latin.md"]
    assert passed["no column 'text'"]["names"] == ["t/other.csv"]
    assert any("not a whole gzip file" in reason for reason in passed)
    assert passed["without a text: no field 'text'"]["names"] == ["t/package.json"]
    assert "plain words in gzip" in fake.texts
    assert json.loads(said.out)["skipped"] == 1
    assert "1 with no column 'text' (t/other.csv)" in said.err and "1 that is not a whole gzip file" in said.err
    assert "8 files passed over: " in said.err and "1 bad row passed over; the first: t/rows.jsonl:2" in said.err


def test_what_is_named_must_be_good(tree: Path, fake: FakeEncoder, capsys: pytest.CaptureFixture[str]) -> None:
    for name, message in (
        ("t/latin.md", "not UTF-8: byte 0xe9 at position 3 (--encoding names another encoding, --skip-bad passes over"),
        ("t/other.csv", "no column 'text'"),
        ("t/bad.md.gz", "not a whole gzip file"),
        ("t/what.xyz", "the suffix does not tell the format"),
    ):
        assert embed(name, "-o", "out.npy") == 1
        assert message in capsys.readouterr().err
    Path("empty").mkdir()
    assert embed("empty", "-o", "out.npy") == 1
    assert "there is no file to read in empty" in capsys.readouterr().err


def test_choices(tree: Path) -> None:
    assert ".hidden/x.md" in found(tree, hidden=True) and ".secret.md" not in found(tree)
    assert "build/out.md" in found(tree, ignored=True) and "sub/only-here.md" in found(tree, ignored=True)
    assert found(tree, include=("*.py", "/b.md")) == ["b.md", "code/x.py"]
    assert "code/x.py" not in found(tree, exclude=("code/",)) and "b.md" in found(tree, exclude=("code/",))
    assert found(tree, include=("*.md",), exclude=("deep",)) == ["b.md", "fake.md", "latin.md"]


def test_rules_of_the_repository_above(tree: Path) -> None:
    assert found("t/sub") == ["deep/only-here.md"]
    Path("t/.gitignore").write_text("deep/\n/sub/x.md\n")
    Path("t/sub/x.md").write_text("x")
    assert found("t/sub") == ["deep/only-here.md", "x.md"]  # no repository
    Path("t/.git").mkdir()
    assert found("t/sub") == []


def git_says(folder: Path) -> list[str]:
    """The files that git would add."""
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", "init", "-q", str(folder)], check=True, env=env)
    listing = ["git", "-C", str(folder), "ls-files", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(listing, check=True, env=env, capture_output=True, text=True)
    return sorted(name for name in done.stdout.split("\0") if name and "/." not in f"/{name}")


def test_the_same_files_as_git(tmp_path: Path) -> None:
    for name in (
        "a.md",
        "b/a.md",
        "b/c/a.md",
        "b/c/d.txt",
        "x y/z.md",
        "é/a.md",
        "b/keep/a.md",
        "b/tmp/a.md",
        "tmp",
        "q/[a].md",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    rules = [
        "/a.md",
        "b/**/a.md\n!b/keep/a.md",
        "tmp/",
        "*\n!*/\n!*.txt",
        "x\\ y/",
        "# c\n\n  \n\\[a\\].md",
        "c/\n!c/d.txt",
        "[a-b]/",
    ]
    for text in rules:
        (tmp_path / ".gitignore").write_text(text)
        (tmp_path / "b" / ".gitignore").write_text("!a.md\n" if "**" in text else "")
        if not (tmp_path / ".git").exists() and not any(Path(p, "git").exists() for p in os.get_exec_path()):
            pytest.skip("git is not installed")
        assert sorted(found(tmp_path)) == git_says(tmp_path), text


def test_links_loops_and_what_is_no_file(tree: Path, fake: FakeEncoder) -> None:
    os.symlink("..", "t/sub/loop")
    os.symlink("absent", "t/broken.md")
    os.symlink("b.md", "t/again.md")  # is met by itself
    Path("outside.md").write_text("outside")
    os.symlink("../outside.md", "t/linked.md")
    os.mkfifo("t/pipe.md")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("t/socket.md")
        passed = PassedOver()
        names = [os.path.relpath(path, "t") for path in walk("t", Choice(), passed)]
    assert "linked.md" in names and "again.md" not in names and not [name for name in names if "loop" in name]
    assert passed.as_json() == {
        "a broken link": {"files": 1, "names": ["t/broken.md"]},
        "no plain file": {"files": 2, "names": ["t/pipe.md", "t/socket.md"]},
        "a link to a folder": {"files": 1, "names": ["t/sub/loop"]},
    }
    os.symlink("t", "link")
    assert "b.md" in [os.path.relpath(path, "link") for path in walk("link", Choice(), PassedOver())]
    assert [source.name for source in find_inputs(["t/b.md", "t"], passed=PassedOver())].count("t/b.md") == 1


def test_a_very_deep_folder(tmp_path: Path) -> None:
    here = os.getcwd()
    try:
        os.chdir(tmp_path)
        for _ in range(1010):
            os.mkdir("d")
            os.chdir("d")
        Path("deep.md").write_text("deep")
        assert len(found(tmp_path)) == 1
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_may_not_be_read(tree: Path, fake: FakeEncoder, capsys: pytest.CaptureFixture[str]) -> None:
    Path("t/b.md").chmod(0)
    Path("t/code").chmod(0)
    try:
        assert embed("t", "-o", "out.npy", "--json") == 0
    finally:
        Path("t/code").chmod(0o755)
    passed = json.loads(capsys.readouterr().out)["passed_over"]
    assert passed["not readable (Permission denied)"]["names"] == ["t/code", "t/b.md"]


def test_a_file_that_is_gone_when_its_turn_comes(tree: Path) -> None:
    inputs = find_inputs(["t"], reading=Reading(choice=Choice(include=("*.md",))), passed=PassedOver())
    Path("t/b.md").unlink()
    rows = list(read_records(inputs, Selection()))
    assert [row.reason for row in rows if isinstance(row, BadRow) and row.file == "t/b.md"] == [
        "not readable (No such file or directory)"
    ]
    assert any(isinstance(row, Record) for row in rows)


def test_a_name_that_is_not_utf8(tmp_path: Path, fake: FakeEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"caf\xe9.md")
    try:
        Path(name).write_text("words")
    except OSError:
        pytest.skip("the file system takes UTF-8 alone")
    assert embed(".", "--keep", "file", "-o", "out.jsonl", "--exclude", "*.jsonl") == 0
    assert json.loads(Path("out.jsonl").read_text())["file"] == "./caf\\xe9.md"
    assert embed(name, "--keep", "file", "-o", "one.jsonl") == 0
    assert json.loads(Path("one.jsonl").read_text())["file"] == "caf\\xe9.md"


def test_chunk_and_search_take_folders(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chunk", "t", "--model", MODEL, "--include", "*.md", "-o", "chunks.jsonl", "--no-text"]) == 0
    rows = [json.loads(line) for line in Path("chunks.jsonl").read_text().splitlines()]
    assert [row["file"] for row in rows] == ["t/b.md", "t/sub/deep/only-here.md"]
    assert main(["search", "build", "i", "t", "--model", MODEL, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["documents"] > 8 and summary["passed_over"]["binary"]["files"] == 1
    documents = [json.loads(line) for line in Path("i/documents.jsonl").read_text().splitlines()]
    assert {"t/page.html", "t/rows.csv:2", "t/code/x.py", "t/zipped.jsonl.zst:1"} <= {
        one["source"] for one in documents
    }


def test_what_was_made_of_a_folder_is_not_read_again(
    tree: Path, fake: FakeEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert embed("t", "-o", "t/out.jsonl", "--include", "*.md", "--include", "*.jsonl", "--force") == 0
        rows = Path("t/out.jsonl").read_text().count("\n")
        assert rows == 3 and "is an input too" not in capsys.readouterr().err
    assert embed("t/out.jsonl", "-o", "t/out.jsonl", "--force") == 1
    for _ in range(2):
        assert (
            main(
                ["search", "build", "t/it.index", "t", "--include", "*.md", "--sync", "--model", MODEL, "--whole-file"]
            )
            == 0
        )
    assert len(Path("t/it.index/documents.jsonl").read_text().splitlines()) == 2
    assert not [name for name in found("t") if name.startswith("it.index")]


def test_the_model_in_either_place(tree: Path, fake: FakeEncoder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["embed", "t/b.md", "-o", "a.npy", "--model", MODEL]) == 0
    assert main(["embed", MODEL, "t/b.md", "-o", "b.npy"]) == 0
    assert Path("a.npy").read_bytes() == Path("b.npy").read_bytes()
    assert main(["embed", "t/b.md", "-o", "c.npy"]) == 1
    assert "t/b.md is the model; name an input behind it, or give --model" in capsys.readouterr().err


def test_a_folder_holds_a_bomb(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MOST_BYTES", 1 << 20)
    Path("t/bomb.md.zst").write_bytes(zstandard.compress(b"\n" * (64 << 20)))
    Path("t/bomb.html.gz").write_bytes(gzip.compress(b" " * (8 << 20)))
    rows = read_records(find_inputs(["t"], passed=PassedOver()), Selection())
    reasons = {row.file: row.reason for row in rows if isinstance(row, BadRow)}
    assert reasons["t/bomb.md.zst"] == reasons["t/bomb.html.gz"] == "larger than 1 MB"

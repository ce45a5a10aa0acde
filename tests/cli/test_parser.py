"""A misspelt command, option or choice is answered with the one that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from longspan.cli.program import USAGE, main


@pytest.mark.parametrize(
    "words, said",
    [
        ("embde x", "argument COMMAND: invalid choice: 'embde'; did you mean 'embed'?"),
        ("search biuld x", "invalid choice: 'biuld'; did you mean 'build'?"),
        ("retro plann", "invalid choice: 'plann'; did you mean 'plan'?"),
        ("--verson", "there is no option --verson; did you mean --version?"),
        ("embed M in.txt --outptu x.npy", "there is no option --outptu; did you mean --output?"),
        ("embed M in.txt -o x.npy --batch-size=3", "there is no option --batch-size; did you mean --batch-tokens?"),
        ("embed M in.txt -o x.npy --precision flaot16", "invalid choice: 'flaot16'; did you mean 'float16'?"),
        ("search query i how do I --modle x", "there is no option --modle; did you mean --model?"),
        ("info --jsno", "there is no option --jsno; did you mean --json?"),
        ("serve M --prot 80", "there is no option --prot; did you mean --port?"),
        ("embed M in.txt -o x.npy --\x1b[31mx", r"there is no option --\x1b[31mx"),
    ],
)
def test_what_was_meant(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == USAGE
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.endswith(said)


@pytest.mark.parametrize(
    "words",
    [
        "embed {m} -o {out} {a}",
        "embed {m} {a} -o {out} {b}",
        "embed -o {out} {m} {a}",
        "embed {m} -o {out} -- {a}",
        "embed -o {out} -- {m} {a}",
        "chunk {m} -o {out} --chunks tokens {a} --force {b}",
        "search build {out} --model {m} {a} --limit 99999999999999999999 {b}",
        "info --json {m} --threads 1",
    ],
)
def test_words_may_stand_behind_options(words: str, golden: Path, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"text {name}\n")
    places = {
        "m": golden / "bert-minilm",
        "out": tmp_path / "out.jsonl",
        "a": tmp_path / "a.txt",
        "b": tmp_path / "b.txt",
    }
    assert main(words.format(**places).split()) == 0
    if words.startswith("embed"):
        assert len(places["out"].read_text().splitlines()) == 1 + ("{b}" in words)


def test_what_was_not_misspelt(capsys: pytest.CaptureFixture[str]) -> None:
    """An option's beginning will do, as ever; words behind -- are none."""
    assert main(["embed", "M", "no-such-file.txt", "--outp", "x.npy"]) == 1
    assert "no-such-file.txt: no such file" in capsys.readouterr().err
    assert main(["embed", "-o", "x.npy", "--", "M", "--zzz"]) == 1
    assert "--zzz: no such file" in capsys.readouterr().err
    assert main(["info", "--zzzzz"]) == USAGE
    assert capsys.readouterr().err.splitlines()[-1].endswith("there is no option --zzzzz")

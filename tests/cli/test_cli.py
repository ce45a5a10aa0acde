"""The `longspan` command: exit codes, errors in one sentence, `info`, and what a person sees."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import longspan
from fake_encoder import MODEL, longspan_process, write_lines
from longspan import Encoder
from longspan.cli import info, main, model_info, program
from longspan.cli.console.terminal import count, excerpt, style, table, width

# ---- the frame


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"longspan {longspan.__version__}\n"
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(entry.name in text and entry.summary in text for entry in program.COMMANDS)
    for entry in program.COMMANDS:
        assert main([entry.name, "--help"]) == 0
        out = capsys.readouterr().out
        assert "examples:" in out
        assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["embde"], "invalid choice: 'embde'"),
        (["embed"], "the following arguments are required: INPUT, -o/--output"),
        (["embed", "m", "a.txt", "-o", "b.npy", "--limit", "0"], "must be a whole number from 1 up, got '0'"),
        (["embed", "m", "a.txt", "-o", "b.npy", "--limit", "x"], "must be a whole number from 1 up, got 'x'"),
        (["embed", "m", "a.txt", "-o", "b.npy", "--query", "--document"], "not allowed with argument --query"),
        (["embed", "m", "a.txt", "-o", "b.npy", "--precision", "int4"], "invalid choice: 'int4'"),
        (["info", "--nothing"], "there is no option --nothing"),
        (["serve", "m", "--port", "65536"], "argument --port: must be a port from 0 to 65535, got '65536'"),
    ],
)
def test_usage_errors(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, meant",
    [("LONGSPAN_IAS", "LONGSPAN_ISA"), ("LONGSPAN_BACKENDS", "LONGSPAN_BACKEND"), ("LONGSPAN_CACHE", None)],
)
def test_a_setting_that_is_misspelt(
    name: str, meant: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "avx2")
    assert main(["--version"]) == 0
    told = f"longspan: warning: the environment variable {name} is none of longspan's; did you mean {meant}?\n"
    assert capsys.readouterr().err == (told if meant else "")


def test_errors_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["embed", MODEL, str(tmp_path / "absent.txt"), "-o", str(tmp_path / "out.npy")]
    assert main(words) == 1
    assert capsys.readouterr() == ("", f"longspan: error: {tmp_path}/absent.txt: no such file\n")
    monkeypatch.setenv("LONGSPAN_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        main(words)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError(13, "Permission denied", "a.txt"), "a.txt: Permission denied"),
        (MemoryError(), "out of memory; a smaller --batch-tokens needs less"),
        (ValueError(), "ValueError"),
        (ValueError("what came"), "what came"),
        (longspan.BackendError("every backend refused"), "every backend refused"),
        (ImportError("no module"), "no module"),
    ],
)
def test_every_kind_of_error(
    error: BaseException, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(info, "installation", lambda: (_ for _ in ()).throw(error))
    assert main(["info"]) == 1
    assert capsys.readouterr().err == f"longspan: error: {sentence}\n"


def test_interrupts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(info, "installation", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "longspan: interrupted\n"
    monkeypatch.setattr(info, "installation", lambda: signal.raise_signal(signal.SIGTERM))
    assert main(["info"]) == 143
    assert capsys.readouterr().err == "longspan: terminated\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_help_starts_fast() -> None:
    code = "import sys; from longspan.cli import main; main(['--help']); print('numpy' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert process.stdout.endswith("False\n")  # what takes long is not imported
    help_seconds, bare_seconds = (
        min(_seconds([sys.executable, *words]) for _ in range(9))
        for words in (["-m", "longspan", "--help"], ["-c", ""])
    )
    assert help_seconds - bare_seconds < 0.1


def _seconds(words: list[str]) -> float:
    """Of processor time, which a busy machine does not stretch."""
    before = os.times()
    subprocess.run(words, check=True, capture_output=True, timeout=60)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "in.txt")
    script = f"'{sys.executable}' -m longspan embed '{MODEL}' '{lines}' -o - | head -c 20; echo ${{PIPESTATUS[0]}}"
    process = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert process.stdout == '{"index": 0, "embedd141\n'
    assert process.stderr == ""


def test_an_ascii_terminal_shows_escapes(tmp_path: Path) -> None:
    (tmp_path / "naïve.txt").write_text("a")
    words = ("demo", tmp_path / "naïve.txt", "--question", "ü?", "--model", MODEL)
    process = longspan_process(*words, env={"PYTHONIOENCODING": "ascii"})
    assert (process.returncode, process.stderr) == (0, b"")
    assert b"\\xfc?" in process.stdout
    assert b"na\\xefve.txt" in process.stdout


# ---- what a person sees


def test_terminal_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (count(1, "text"), count(0, "text"), count(1234, "text")) == ("1 text", "0 texts", "1,234 texts")
    assert style("a", "bold") == "a"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert style("a", "bold", "green") == "\x1b[1;32ma\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert style("a", "bold") == "a"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert style("a", "bold") == "a"
    for columns, expected in (("20", 40), ("80", 80), ("300", 100)):
        monkeypatch.setenv("COLUMNS", columns)
        assert width() == expected
    monkeypatch.setenv("COLUMNS", "40")
    words = "word " * 30
    text = f"Head\n****\n\n  def f():\n      return 1\n{words}"
    assert excerpt(text, indent=4, lines=5).splitlines() == [
        "    Head", "      def f():", "          return 1", f"    {words[:34]}", f"    {words[:29]} ..."
    ]  # fmt: skip
    assert excerpt("a\tb\r\n", indent=2, lines=3) == "  a       b"
    assert excerpt(" ", indent=2, lines=3) == ""
    assert table([("a", "1"), ("long", "x " * 20)]).splitlines() == [
        "  a     1", "  long  x x x x x x x x x x x x x x x x", "        x x x x",
    ]  # fmt: skip


# ---- info


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    return Encoder(MODEL)


def test_info_of_the_installation(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from longspan import _core

    assert main(["info", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["longspan"] == longspan.__version__
    assert (shown["isa"], shown["available_isas"]) == (_core.isa(), _core.available_isas())
    assert shown["multiplies_bf16"] is _core.multiplies_bf16()
    assert shown["numpy"] == np.__version__
    assert set(shown["optional"]) == set(info.OPTIONAL_PACKAGES)
    monkeypatch.setattr(info, "OPTIONAL_PACKAGES", ("no-such-package",))
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert _core.isa() in text
    assert "not installed (optional)" in text


def test_info_of_a_model(tiny: Encoder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Encoder, "encode", lambda *_, **__: pytest.fail("info computed something"))
    assert main(["info", MODEL, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["family"], shown["dim"], shown["max_length"]) == (tiny.spec.family, tiny.dim, tiny.max_length)
    assert shown["kernels"] == tiny.explain()
    assert set(shown["spec"]) == {field.name for field in dataclasses.fields(tiny.spec)}
    records = {
        name: value for name, value in shown["spec"].items() if dataclasses.is_dataclass(getattr(tiny.spec, name))
    }
    assert all(value["kind"] == type(getattr(tiny.spec, name)).__name__ for name, value in records.items())
    safetensors = pytest.importorskip("safetensors.numpy").load_file(f"{MODEL}/model.safetensors")
    assert shown["parameters"] == sum(array.size for array in safetensors.values() if array.dtype.kind == "f")
    assert sum(shown["tensors"].values()) == len(safetensors)
    assert main(["info", MODEL]) == 0
    text = capsys.readouterr().out
    assert f"{tiny.dim} dimensions" in text
    assert tiny.explain() in " ".join(text.split())


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlanguage: en\nlicense: cc-by-nc-4.0\ntags:\n- x\n---\n# A model\n", "cc-by-nc-4.0"),
        ('---\nlicense: "mit"\n---\n', "mit"),
        ("---\nlanguage: en\n---\nlicense: not in the header\n", None),
        ("# A model\nlicense: mit\n", None),
        ("", None),
        (None, None),
    ],
)
def test_the_licence_of_a_model_card(tmp_path: Path, card: str | None, licence: str | None) -> None:
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert model_info._licence(tmp_path) == licence


def test_a_spec_in_words() -> None:
    @dataclasses.dataclass(frozen=True)
    class Window:
        left: int
        right: int | None = None
        wraps: bool = False

    layers = model_info._plain((Window(1, 2), Window(1, 2), Window(3, wraps=True)))
    assert layers[2] == {"kind": "Window", "left": 3, "right": None, "wraps": True}
    assert model_info._value(layers) == "2 x left 1, right 2; left 3, wraps yes"


def test_info_of_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tmp_path / "absent")]) == 1
    assert capsys.readouterr().err.startswith("longspan: error: there is no folder")


def test_a_model_is_named_by_an_option_everywhere(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(golden / "bert-minilm")
    assert main(["info", model, "--json"]) == 0
    said = capsys.readouterr().out
    assert main(["info", "--model", model, "--json"]) == 0
    assert capsys.readouterr().out == said
    assert main(["info", model, "--model", model]) == 1
    assert "one at a time" in capsys.readouterr().err
    commands = [
        ["embed"],
        ["chunk"],
        ["rerank"],
        ["serve"],
        ["info"],
        ["demo"],
        ["search", "build"],
        ["search", "query"],
    ]
    for words in [*commands, ["retro", "run"], ["retro", "query"]]:
        assert main([*words, "--help"]) == 0
        assert "--model MODEL" in capsys.readouterr().out, words

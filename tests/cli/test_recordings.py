"""Sound and video files through the command line: embedded, indexed, found by words, damaged, passed over."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from longspan import Encoder
from longspan.cli import main
from media_files import pictures, sound_file, tone, video_file

for name in ("soundfile", "soxr", "av", "PIL.Image"):
    pytest.importorskip(name, reason=f"{name} is not installed")

GOLDEN = Path(__file__).parent.parent / "golden"
OMNI, CLIP, BERT = (str(GOLDEN / name) for name in ("jina-v5-omni-small/model", "jina-clip-v2/model", "bert-minilm"))
TASK = ["--task", "retrieval"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sounds, a video with one, a text; and beside them what is damaged."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("in/low.wav").write_bytes(sound_file(tone(0.6, 22050), 22050, "WAV"))
    Path("in/high.mp3").write_bytes(sound_file(tone(0.6, 48000, hertz=3000), 48000, "MP3"))
    Path("in/clip.mp4").write_bytes(video_file(pictures(4), "mp4", "mpeg4", ("aac", tone(0.5, 48000))))
    Path("in/t.jsonl").write_text('{"text": "a low tone"}\n')
    Path("bad.flac").write_bytes(b"fLaC and no sound")
    Path("bad.mp4").write_bytes(b"no video")
    Path("short.wav").write_bytes(sound_file(tone(0.01, 16000), 16000, "WAV"))
    return tmp_path


def test_embed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["in/low.wav", "in/t.jsonl", "in/clip.mp4", "in/high.mp3"]
    assert main(["embed", OMNI, *names, *TASK, "--document", "--keep", "file", "-o", "out.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 4
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [row.get("file") for row in rows] == names
    given = [{"audio": names[0]}, "a low tone", {"video": names[2]}, {"audio": names[3]}]
    truth = Encoder(OMNI).encode_document(given, task="retrieval")
    np.testing.assert_allclose([row["embedding"] for row in rows], truth, rtol=0, atol=1e-6)


def test_a_text_finds_a_sound(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "build", "i", "in", "--model", OMNI]) == 0
    capsys.readouterr()
    assert main(["search", "query", "i", "which", "tone", "--json"]) == 0
    [answer] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {Path(hit["source"]).name: hit for hit in answer["hits"]}
    assert set(found) == {"low.wav", "high.mp3", "clip.mp4", "t.jsonl:1"}
    assert found["low.wav"]["file"] == str(folder / "in" / "low.wav") and found["low.wav"]["text"] is None
    encoder = Encoder(OMNI)
    query = encoder.encode_query("which tone")
    for name, kind in (("low.wav", "audio"), ("high.mp3", "audio"), ("clip.mp4", "video")):
        score = float(query @ encoder.encode_document({kind: f"in/{name}"}))
        assert abs(found[name]["score"] - score) < 0.02  # documents are kept in bytes
    assert main(["search", "query", "i", "which", "tone", "--show", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert page.count("<figure>") == 4 and page.count("data:image/jpeg") == 1  # a frame of the video


@pytest.mark.parametrize("bad, message", [
    ("bad.flac", "bad.flac cannot be decoded as a sound file"),
    ("bad.mp4", "bad.mp4 cannot be decoded as a sound or video file"),
    ("short.wav", "short.wav must have at least 321 samples"),
])  # fmt: skip
def test_damaged_files(bad: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["embed", OMNI, "in/low.wav", bad, *TASK, "-o", "o.npy"]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert message in said and "--skip-bad" in said
    assert main([*words, "--skip-bad"]) == 0
    assert f"o.npy.skipped.jsonl; the first: {bad}" in capsys.readouterr().err
    assert len(np.load("o.npy")) == 1


def test_info_tells_towers_and_layers_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", OMNI]) == 0
    told = capsys.readouterr().out
    assert "vision tower       3 layers of 32 dimensions" in told and "audio tower        2 layers of 32" in told
    assert "3 x rotary (theta 3,500,000, dim 24)" in told and "Spec(" not in told and "pad" not in told


def test_models_that_do_not_hear(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["embed", BERT, "in/low.wav", "-o", "o.npy"], "this model reads text alone"),
        (["embed", CLIP, "in/low.wav", "-o", "o.npy"], "this model reads text and image alone"),
        (["chunk", BERT, "in/low.wav", "-o", "o.jsonl"], "in/low.wav is a sound; here texts are read"),
        (["chunk", BERT, "in/clip.mp4", "-o", "o.jsonl"], "in/clip.mp4 is a video; here texts are read"),
        (["embed", OMNI, "-", "--format", "audio", "-o", "o.npy"], "standard input cannot be a sound; name a file"),
    ):
        assert main(words) == 1
        assert message in capsys.readouterr().err
    assert main(["embed", CLIP, "in", "-o", "o.npy"]) == 0
    said = capsys.readouterr().err
    assert "2 sounds, and this model reads texts and images" in said and "1 video, and this model reads texts" in said
    assert len(np.load("o.npy")) == 1


def test_long_sounds_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("long.wav").write_bytes(sound_file(tone(31, 16000), 16000, "WAV"))
    Path("long.txt").write_text("word " * 5000)
    told = "encode: 1 of 2 inputs had sounds longer than the model hears; 1 seconds were left out\n"
    assert main(["search", "build", "i", "long.wav", "long.txt", "--model", OMNI, "--whole-file"]) == 0
    said = capsys.readouterr().err
    assert told in said and "tokens were left out; --chunk-tokens N cuts them into passages instead" in said
    assert main(["embed", OMNI, "long.wav", *TASK, "--on-truncate", "error", "-o", "o.npy"]) == 1
    assert "has 1 seconds of sound more than the model hears" in capsys.readouterr().err

"""Image files and PDF pages through the command line: embedded, indexed, found, shown, damaged, resumed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from longspan import DocumentIndex, Encoder, MultiVectorEncoder
from longspan.cli import main
from longspan.images.pages import PdfPage

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")

GOLDEN = Path(__file__).parent.parent / "golden"
CLIP, V4 = str(GOLDEN / "jina-clip-v2" / "model"), str(GOLDEN / "jina-v4" / "model")


def painted(place: int) -> object:
    """A white picture with a square somewhere."""
    pixels = np.full((120, 90, 3), 255, np.uint8)
    at = 10 + 12 * (place % 6)
    pixels[at : at + 20, at : at + 20] = (40 * (place % 5), 30, 200 - 30 * (place % 5))
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two pages, two pictures, a text, and one that is damaged."""
    monkeypatch.chdir(tmp_path)
    painted(0).save("doc.pdf", save_all=True, append_images=[painted(1)])
    painted(2).save("a.png")
    painted(3).save("b.jpg")
    Path("bad.png").write_bytes(b"no picture")
    Path("t.jsonl").write_text('{"text": "a text about squares"}\n')
    return tmp_path


def test_embed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["doc.pdf", "a.png", "t.jsonl", "b.jpg"]
    assert main(["embed", CLIP, *names, "--keep", "file", "--keep", "page", "-o", "out.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 5
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [(row.get("file"), row.get("page")) for row in rows] == [
        ("doc.pdf", 1), ("doc.pdf", 2), ("a.png", None), ("t.jsonl", None), ("b.jpg", None)
    ]  # fmt: skip
    encoder = Encoder(CLIP)
    inputs = [PdfPage(Path("doc.pdf"), 1), PdfPage(Path("doc.pdf"), 2), {"image": "a.png"}, "a text about squares"]
    truth = encoder.encode([*inputs, {"image": "b.jpg"}])
    np.testing.assert_allclose([row["embedding"] for row in rows], truth, rtol=0, atol=1e-6)


@pytest.mark.parametrize("command", [["embed", CLIP, "-o", "o.npy"], ["search", "build", "i", "--model", CLIP]])
def test_damaged_files(command: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = 2 if command[0] == "embed" else 3
    words = [*command[:at], "a.png", "bad.png", *command[at:]]
    assert main(words) == 1
    assert re.search(r"bad\.png cannot be decoded as one of .*--skip-bad", capsys.readouterr().err)
    assert main([*words, "--skip-bad", *(["--force"] if command[0] == "search" else [])]) == 0
    assert re.search(r"1 bad row passed over.*; the first: bad\.png", capsys.readouterr().err)


def test_what_reads_texts_refuses_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["chunk", str(GOLDEN / "jina-v2-en"), "a.png", "-o", "o.jsonl"], "a.png is an image; here texts are read"),
        (["embed", str(GOLDEN / "bert-minilm"), "a.png", "-o", "o.npy"], "this model reads text alone"),
        (["embed", CLIP, "-", "--format", "pdf", "-o", "o.npy"], "standard input cannot be a PDF file; name a file"),
        (["search", "build", "i", "a.png", "--model", CLIP, "--token-vectors"], "this one makes one vector a text"),
    ):
        assert main(words) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("model", [CLIP, V4])
def test_a_picture_asks(model: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A picture finds itself first, by one vector and by token vectors; pages of a PDF are a question each."""
    extra = ["--token-vectors"] if model == V4 else []
    assert main(["search", "build", "i", "a.png", "b.jpg", "doc.pdf", "--model", model, *extra]) == 0
    capsys.readouterr()
    for name, places in (("b.jpg", ["b.jpg"]), ("doc.pdf", ["doc.pdf: page 1", "doc.pdf: page 2"])):
        assert main(["search", "query", "i", "--file", name, "--json", "-k", "2"]) == 0
        answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [answer["query"] for answer in answers] == places
        assert [answer["hits"][0]["source"] for answer in answers] == places
    encoder = MultiVectorEncoder(V4) if model == V4 else Encoder(CLIP)
    assert DocumentIndex("i", encoder).search({"image": "b.jpg"}, 1)[0].source == "b.jpg"
    assert main(["search", "query", "i", "--file", "b.jpg", "--show", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert '<img alt="b.jpg" src="data:image/jpeg' in page and 'class="chips"' not in page


def test_pictures_that_cannot_ask(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.txt").write_text("squares\n")
    Path("hum.wav").write_bytes(b"RIFF")
    texts = str(GOLDEN / "bert-minilm")
    assert main(["search", "build", "texts", "t.txt", "--model", texts]) == 0
    assert main(["search", "build", "i", "a.png", "--model", CLIP]) == 0
    capsys.readouterr()
    for words, message in (
        (["texts", "--file", "a.png"], "a.png is an image, but the model of texts reads texts\n"),
        (["i", "--file", "hum.wav"], "hum.wav is a sound, but the model of i reads texts and images\n"),
        (["i", "--file", "bad.png"], "bad.png cannot be decoded as one of"),
        (["i", "--file", "b.jpg", "--fusion", "ranks"], "i has no sparse model beside it"),
    ):
        assert main(["search", "query", *words]) == 1
        assert message in capsys.readouterr().err


def test_pages_are_found_by_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "build", "i", "doc.pdf", "a.png", "t.jsonl", "--model", CLIP]) == 0
    assert main(["search", "query", "i", "a", "text", "about", "squares", "--json"]) == 0
    [answer] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {hit["source"]: hit for hit in answer["hits"]}
    assert answer["hits"][0]["text"] == "a text about squares"
    assert found["doc.pdf: page 2"]["page"] == 2 and found["doc.pdf: page 2"]["file"] == str(folder / "doc.pdf")
    encoder = Encoder(CLIP)
    query = encoder.encode_query("a text about squares")
    score = float(query @ encoder.encode_document(PdfPage(Path("doc.pdf"), 2)))
    assert abs(found["doc.pdf: page 2"]["score"] - score) < 0.02  # documents are kept in bytes


@pytest.fixture
def token_index(folder: Path) -> str:
    assert main(["search", "build", "tokens", "doc.pdf", "a.png", "t.jsonl", "--model", V4, "--token-vectors"]) == 0
    return "tokens"


def test_token_vectors_of_pages(token_index: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["search", "query", token_index, "squares", "--json"]) == 0
    [answer] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    multi = MultiVectorEncoder(V4)
    pages = [PdfPage(Path("doc.pdf"), 1), PdfPage(Path("doc.pdf"), 2), {"image": "a.png"}, "a text about squares"]
    scores = multi.score([multi.encode_queries("squares")], multi.encode_documents(pages))[0]
    assert [hit["score"] for hit in answer["hits"]] == pytest.approx(sorted(scores, reverse=True), abs=0.05)


def test_places_of_tokens(folder: Path) -> None:
    multi = MultiVectorEncoder(V4)
    page, text, query = {"image": "a.png"}, "a text about squares", "which squares"
    for given, role, vectors in (
        (page, "document", multi.encode_documents(page)),
        (text, "document", multi.encode_documents(text)),
        (query, "query", multi.encode_queries(query)),
    ):
        [places] = multi.token_places([given], role)
        assert len(places.ids) == len(places.spans) == len(places.cells) == len(vectors)
    [places] = multi.token_places(page)
    rows, columns = places.grid
    inside = places.cells[(places.cells >= 0).all(1)]
    assert inside.tolist() == [[row, column] for row in range(rows) for column in range(columns)]
    [places] = multi.token_places(text)
    assert "".join(text[start:end] for start, end in places.spans) == text


def page_of(index: str, *words: str) -> str:
    assert main(["search", "query", index, *words, "--show", "page.html"]) == 0
    return Path("page.html").read_text()


def test_the_page_asks_for_nothing_else(token_index: str, folder: Path) -> None:
    page = page_of(token_index, "<b>squares & </script>", "--top-k", "9")
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<link|src=\"(?!data:)", page)
    assert "default-src 'none'" in page and "<b>squares" not in page
    assert page.count("<figure>") == 4 and page.count("data:image/jpeg;base64,") == 3
    assert page.count('class="heat"') == 4
    heats = [json.loads(found) for found in re.findall(r'class="heat">(.*?)</script>', page)]
    of_pages = [heat for heat in heats if heat["grid"] is not None]
    assert len(of_pages) == 3 and all(heat["places"] == np.prod(heat["grid"]) for heat in of_pages)


def test_show_of_one_vector_a_document(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "build", "i", "doc.pdf", "t.jsonl", "--model", CLIP]) == 0
    page = page_of("i", "squares")
    assert page.count("<figure>") == 3 and 'class="heat">' not in page and page.count("data:image/jpeg") == 2
    (folder / "doc.pdf").unlink()
    assert page_of("i", "squares").count("data:image/jpeg") == 0  # shown without what is gone
    for words, message in (
        (["--json"], "--show writes a page and --json prints answers"),
        (["--show", "x.txt"], "a page to look at ends in .html"),
        (["--show", "no/x.html"], "the folder .* does not exist"),
    ):
        assert main(["search", "query", "i", "x", "--show", "y.html", *words]) == 1
        assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_what_a_browser_shows(scheme: str, token_index: str, folder: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("chromium is absent: apt-get install chromium")
    page_of(token_index, "squares")
    multi = MultiVectorEncoder(V4)
    query = multi.encode_queries("squares")
    [tokens] = multi.token_places("squares", "query")
    number = int(np.flatnonzero(tokens.spans[:, 1] > 0)[0])
    [places] = multi.token_places({"image": "a.png"})
    similarity = query[number] @ multi.encode_documents({"image": "a.png"}).T
    similarity[(places.cells < 0).any(1)] = -2
    row, column = places.cells[int(similarity.argmax())]

    flags = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    flags += [f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}", "--window-size=1300,1000"]
    url = f"file://{folder / 'page.html'}#token={number + 1}"
    run = {"capture_output": True, "text": True, "timeout": 120}
    shown = subprocess.run([*flags, "--dump-dom", url], check=True, **run).stdout
    figure = next(part for part in shown.split("<figure>") if "a.png" in part)
    said = re.search(r"best at row (\d+) of (\d+), column (\d+) of (\d+): (-?[\d.]+)", figure)
    assert said is not None, figure[-300:]
    assert (int(said[2]), int(said[4])) == places.grid
    near = similarity.max() - similarity[((places.cells == [int(said[1]) - 1, int(said[3]) - 1]).all(1))]
    assert near.max() < 0.02, (said[0], row, column)  # what is kept in bytes may move the best place to its equal
    assert f'data-token="{number}" aria-pressed="true"' in shown and "<canvas" in figure
    subprocess.run([*flags, f"--screenshot={folder / 'page.png'}", url], check=True, **run)
    seen = np.asarray(Image.open(folder / "page.png").convert("RGB")).astype(int)
    ground = seen[2, 2]
    assert (ground.max() < 60) if scheme == "dark" else (ground.min() > 200)
    hot = (seen[..., 0] > 180) & (seen[..., 2] < 140) & (seen[..., 0] - seen[..., 2] > 80)
    assert hot.sum() > 500  # the button that is pressed, and the places that match


def test_a_folder_that_was_stopped_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        painted(number).save(f"p{number:02}.png")
    names = [f"p{number:02}.png" for number in range(12)] + ["doc.pdf"]
    whole = ["embed", CLIP, *names, "-o", "whole.npy"]
    assert main(whole) == 0
    encode, calls = Encoder.encode, []

    def stopped(self: Encoder, texts: object, **options: object) -> object:
        calls.append(texts)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(self, texts, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "encode", stopped)
        assert main(["embed", CLIP, *names, "-o", "out.npy", "--resume"]) == 130
    assert not Path("out.npy").exists() and Path(".out.npy.partial").exists()
    assert main(["embed", CLIP, *names, "-o", "out.npy", "--resume"]) == 0
    np.testing.assert_array_equal(np.load("out.npy"), np.load("whole.npy"))

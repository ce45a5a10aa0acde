"""Images as users have them: right pixels, or one sentence."""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longspan.images import decode
from longspan.images.decode import read_image
from longspan.images.pages import PdfPage, count_pages

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
pypdfium2 = pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")

MUTATIONS = int(os.environ.get("LONGSPAN_TEST_MUTATIONS", "2000"))  # 100000 for the long form


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """(9, 13, 3): no two pixels alike."""
    return np.random.default_rng(0).integers(0, 256, (9, 13, 3)).astype(np.uint8)


def saved(image: object, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_lossless_files_give_their_pixels(pixels: np.ndarray, tmp_path: Path) -> None:
    image = Image.fromarray(pixels)
    for kind in ("PNG", "BMP", "TIFF", "PPM"):
        data = saved(image, kind)
        (tmp_path / "file").write_bytes(data)
        forms = [data, tmp_path / "file", str(tmp_path / "file"), image, pixels]
        forms += [{"bytes": data, "path": "gone.png"}, {"bytes": None, "path": str(tmp_path / "file")}]
        for given_as in forms:
            np.testing.assert_array_equal(read_image(given_as), pixels)
        with open(tmp_path / "file", "rb") as file:
            for opened in (file, io.BytesIO(data)):
                for _ in range(2):  # it is read from its start, and stays open
                    np.testing.assert_array_equal(read_image(opened), pixels)
    np.testing.assert_array_equal(read_image(saved(image, "WEBP", lossless=True)), pixels)


@pytest.mark.parametrize(
    "given, error, said",
    [
        (
            {"bytes": None, "path": None},
            ValueError,
            r"""photo must have "bytes" or "path", .*, got \['bytes', 'path'\]""",
        ),
        ({"url": "x"}, ValueError, r"""photo must have "bytes" or "path", .*, got \['url'\]"""),
        ({"bytes": {"bytes": b""}}, ValueError, """photo must have "bytes" or "path\""""),
        ({"path": "gone.png"}, FileNotFoundError, "photo: gone.png is missing, or is not a file"),
        (io.StringIO("words"), TypeError, "photo must be a file of bytes, opened with mode 'rb', got StringIO"),
        (io.BytesIO(b"words"), ValueError, "photo cannot be decoded as one of PNG.*: cannot identify image file$"),
        (io.BytesIO(), ValueError, "photo cannot be decoded"),
        (
            io.BytesIO(b"%PDF-1.7 words"),
            ValueError,
            r"photo is a PDF file; give longspan.PdfPage\(path, number\), or Pdf",
        ),
        (b"%PDF-1.7 words", ValueError, "photo is a PDF file"),
    ],
)
def test_files_that_are_no_images(given: object, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        read_image(given, "photo")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    closed = io.BytesIO(b"words")
    closed.close()
    with pytest.raises(ValueError, match="photo must be a file that can be read from its start: I/O operation on clos"):
        read_image(closed, "photo")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns(orientation: int, pixels: np.ndarray) -> None:
    turns = {  # where the stored pixels are to be seen
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(read_image(saved(Image.fromarray(pixels), "PNG", exif=exif)), turns[orientation])


def test_what_is_transparent_lies_on_white(pixels: np.ndarray) -> None:
    rgba = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    rgba[0, 0] = (10, 20, 30, 0)
    rgba[0, 1] = (0, 100, 255, 128)
    expected = pixels.copy()
    expected[0, 0], expected[0, 1] = 255, (127, 177, 255)
    for given_as in (rgba, Image.fromarray(rgba), saved(Image.fromarray(rgba), "PNG")):
        np.testing.assert_array_equal(read_image(given_as), expected)
    palette = Image.fromarray(pixels).quantize(8)
    palette.info["transparency"] = palette.getpixel((0, 0))
    found = read_image(saved(palette, "PNG", transparency=palette.getpixel((0, 0))))
    assert (found[0, 0] == 255).all()
    unseen = Image.fromarray(pixels[:, :, 0].copy()).convert("LA")
    unseen.putalpha(0)
    assert (read_image(saved(unseen, "PNG")) == 255).all()


def test_other_modes(pixels: np.ndarray) -> None:
    image = Image.fromarray(pixels)
    grey = pixels[:, :, 0]
    for given_as in (grey, grey[:, :, None], Image.fromarray(np.ascontiguousarray(grey))):
        np.testing.assert_array_equal(read_image(given_as), np.repeat(grey[:, :, None], 3, 2))
    wide = Image.fromarray(grey.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(saved(wide, "PNG")), np.repeat(grey[:, :, None], 3, 2))
    np.testing.assert_array_equal(read_image(image.convert("CMYK")), np.asarray(image.convert("CMYK").convert("RGB")))
    palette = image.quantize(16)
    np.testing.assert_array_equal(read_image(saved(palette, "PNG")), np.asarray(palette.convert("RGB")))
    bits = image.convert("1")
    np.testing.assert_array_equal(read_image(saved(bits, "PNG")), np.asarray(bits.convert("RGB")))
    with pytest.raises(ValueError, match="image has floating-point pixels, whose range is not known"):
        read_image(saved(Image.fromarray(grey.astype(np.float32)), "TIFF"))


def test_of_an_animation_the_first_frame(pixels: np.ndarray) -> None:
    frames = [Image.fromarray(pixels), Image.fromarray(255 - pixels)]
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(data), pixels)


def test_refusals(pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) show\n"
    svg = b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"
    for data in (eps, svg, b"", b"\x89PNG\r\n\x1a\n", saved(Image.fromarray(pixels), "PNG")[:60]):
        with pytest.raises(ValueError, match="picture cannot be decoded as one of PNG, JPEG"):
            read_image(data, "picture")
    with pytest.raises(FileNotFoundError, match=r"picture: .*none\.png is missing"):
        read_image(tmp_path / "none.png", "picture")
    with pytest.raises(TypeError, match="picture must be an image: .* got list"):
        read_image([1, 2], "picture")
    monkeypatch.setattr(decode, "MAX_PIXELS", 100)
    for given_as in (pixels, saved(Image.fromarray(pixels), "PNG")):
        with pytest.raises(ValueError, match="picture must have at most 100 pixels, got 13 x 9"):
            read_image(given_as, "picture")


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    header = saved(Image.new("1", (1, 1)), "PNG")
    wide = (60_000).to_bytes(4, "big")
    body = b"IHDR" + wide + wide + header[24:29]
    bomb = header[:12] + body + zlib.crc32(body).to_bytes(4, "big") + header[33:]
    with pytest.raises(ValueError, match="(at most 89000000 pixels|cannot be decoded)"):
        read_image(bomb)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_an_image_or_an_error(data: bytes) -> None:
    try:
        found = read_image(data)
    except ValueError:
        return
    assert found.ndim == 3 and found.shape[2] == 3


def small_files() -> dict[str, bytes]:
    """A small valid file of each kind."""
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (20, 24, 3)).astype(np.uint8))
    files = {kind: saved(image, kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")}
    files["TIFF lzw"] = saved(image, "TIFF", compression="tiff_lzw")
    files["PNG palette"] = saved(image.quantize(16), "PNG")
    files["PDF"] = saved(image, "PDF")
    return files


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes changed, a piece cut out, repeated, or the end cut off."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(len(changed))) if changed else 0
        kind = int(rng.integers(5))
        if kind <= 2 and changed:
            changed[at] = int(rng.choice([0, 255, 127, 128, int(rng.integers(256))]))
        elif kind == 3:
            del changed[at : at + int(rng.integers(1, 20))]
        else:
            changed[at:at] = changed[at : at + int(rng.integers(1, 20))]
    return bytes(changed[: int(rng.integers(len(changed)))] if rng.random() < 0.1 and changed else changed)


def test_damaged_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutations of small files: pixels, or a ValueError; LONGSPAN_TEST_MUTATIONS says how many."""
    monkeypatch.setattr(decode, "MAX_PIXELS", 2_000_000)  # what a mutated size may ask for, many times over
    rng, path = np.random.default_rng(int(os.environ.get("LONGSPAN_TEST_SEED", "2"))), tmp_path / "file.pdf"
    files = list(small_files().items())
    read = refused = 0
    for number in range(MUTATIONS):
        kind, data = files[number % len(files)]
        data = mutated(data, rng)
        try:
            if kind == "PDF":
                path.write_bytes(data)
                for page in range(1, min(3, count_pages(path)) + 1):
                    PdfPage(path, page).read()
                    PdfPage(path, page).text()
            else:
                read_image(data)
            read += 1
        except ValueError:
            refused += 1
    assert read > MUTATIONS // 50 and refused > MUTATIONS // 50


def test_pages(tmp_path: Path) -> None:
    red, blue = (np.full((100, 60, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))
    path = tmp_path / "two.pdf"
    Image.fromarray(red).save(path, save_all=True, append_images=[Image.fromarray(blue)], resolution=72)
    assert count_pages(path) == 2
    for number, colour in ((1, (200, 0, 0)), (2, (0, 0, 200))):
        page = PdfPage(path, number).read()
        assert abs(page.shape[0] - 209) <= 1 and abs(page.shape[1] - 125) <= 1  # 100 x 60 points at 150 dots an inch
        assert np.abs(page[50:150, 30:90].astype(int) - colour).max() < 12
        np.testing.assert_array_equal(read_image(PdfPage(path, number)), page)
    assert PdfPage(path, 1).text() == ""
    with pytest.raises(ValueError, match="two.pdf has 2 pages, and no page 3"):
        PdfPage(path, 3).read()
    path.write_bytes(b"%PDF-1.4 nothing")
    with pytest.raises(ValueError, match="is no PDF file that can be read"):
        count_pages(path)
    with pytest.raises(FileNotFoundError):
        count_pages(tmp_path / "none.pdf")


def test_the_text_of_a_page(tmp_path: Path) -> None:
    (tmp_path / "text.pdf").write_bytes(text_pdf("Late interaction over pages"))
    assert PdfPage(tmp_path / "text.pdf", 1).text() == "Late interaction over pages"
    assert PdfPage(tmp_path / "text.pdf", 1).text(4) == "Late"


def text_pdf(text: str) -> bytes:
    """A page of one line."""
    content = f"BT /F1 18 Tf 20 60 Td ({text}) Tj ET".encode()
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 100]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    body, offsets = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj%s endobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    start = len(body)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    return body + head + table + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start)

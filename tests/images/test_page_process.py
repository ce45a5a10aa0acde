"""Pages that a process of their own draws: the same bits, and an end to those that take too long."""

from __future__ import annotations

import io
import os
import resource
import signal
import threading
import time
import zlib
from collections.abc import Iterator

import numpy as np
import pytest

from longspan.images import page_process
from longspan.images.page_process import PageDrawer, PageProcesses, PageTimeError
from longspan.images.pages import PdfPage, count_pages

pytest.importorskip("PIL", reason="pip install 'longspan[images]'")
pytest.importorskip("pypdfium2", reason="pip install 'longspan[images]'")


def pictures(*colours: tuple[int, int, int]) -> bytes:
    """A PDF file of a page a colour."""
    from PIL import Image

    pages = [Image.fromarray(np.full((90, 60, 3), colour, np.uint8)) for colour in colours]
    file = io.BytesIO()
    pages[0].save(file, "PDF", save_all=True, append_images=pages[1:], resolution=72)
    return file.getvalue()


def endless() -> bytes:
    """A few kilobytes that fill the page a million times, inside of a form, where PDFium looks for no pause."""
    drawn = zlib.compress(b"0 0 m 600 700 l 10 400 l 300 20 l f\n" * 1_000_000)
    form = b"/Type /XObject /Subtype /Form /BBox [0 0 612 792] /Filter /FlateDecode"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R"
        b" /Resources << /XObject << /F 5 0 R >> >> >>",
        b"<< /Length 5 >>\nstream\n/F Do\nendstream",
        b"<< %b /Length %d >>\nstream\n%b\nendstream" % (form, len(drawn), drawn),
    ]
    file, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(file))
        file += b"%d 0 obj\n%b\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    end = b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % len(file)
    return file + b"xref\n0 6\n0000000000 65535 f \n" + table + end


@pytest.fixture(scope="module")
def processes() -> Iterator[PageProcesses]:
    made = PageProcesses()
    yield made
    made.close()


def test_the_same_bits(processes: PageProcesses) -> None:
    drawer = PageDrawer(processes, 60)
    for file in (pictures((200, 0, 0), (0, 0, 200)), pictures((1, 2, 3))):
        assert drawer.count(file, "input") == count_pages(file)
        for number in range(1, count_pages(file) + 1):
            page = drawer.page(file, number)
            assert isinstance(page, PdfPage)
            pixels = page.read()
            assert pixels.flags.writeable and np.array_equal(pixels, PdfPage(file, number).read())
    assert len(processes._idle) == 1  # one was enough for all of them


def test_threads_have_processes_of_their_own(processes: PageProcesses) -> None:
    files = [pictures((40 * number, 0, 0)) for number in range(6)]
    found: dict[int, int] = {}

    def draw(number: int) -> None:
        drawer = PageDrawer(processes, 60)
        for _ in range(5):
            found[number] = int(drawer.draw(files[number], 1, "a")[5, 5, 0])

    threads = [threading.Thread(target=draw, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    truth = {number: int(PdfPage(files[number], 1).read()[5, 5, 0]) for number in range(6)}
    assert found == truth and len(set(truth.values())) == 6


@pytest.mark.parametrize("file", [b"", b"hello", pictures((9, 9, 9))[:200]], ids=["empty", "text", "cut"])
def test_messages_are_those_of_a_page(processes: PageProcesses, file: bytes) -> None:
    PageDrawer(processes, 60).count(pictures((1, 1, 1)), "another")  # a file before it is not taken for it
    with pytest.raises(ValueError) as here:
        count_pages(file, "input[3]")
    with pytest.raises(ValueError) as there:
        PageDrawer(processes, 60).count(file, "input[3]")
    assert str(there.value) == str(here.value) and "input[3]" in str(there.value)
    with pytest.raises(ValueError, match="has 1 pages, and no page 7"):
        PageDrawer(processes, 60).draw(pictures((1, 1, 1)), 7, "input[0]")


def test_what_takes_too_long_is_ended(processes: PageProcesses) -> None:
    file = endless()
    assert len(file) < 200_000
    PageDrawer(processes, 60).count(file, "a")  # a process that has begun, however busy the machine is
    drawer = PageDrawer(processes, 1.5)
    started = time.monotonic()
    assert drawer.count(file, "input[0]") == 1
    for _ in range(2):  # the seconds are those of all pages together
        with pytest.raises(PageTimeError, match=r"input\[0\]: the pages take more than the 1.5 seconds"):
            drawer.draw(file, 1, "input[0]")
    assert time.monotonic() - started < 15
    assert PageDrawer(processes, 60).count(pictures((1, 1, 1)), "a") == 1  # others go on


def test_a_process_that_crashes_takes_nobody_along() -> None:
    processes = PageProcesses()
    drawer, file = PageDrawer(processes, 60), pictures((1, 1, 1))
    drawer.count(file, "a")
    [process] = processes._idle
    os.kill(process._popen.pid, signal.SIGSTOP)

    def crash() -> None:
        while processes._idle:  # until it is asked
            time.sleep(0.01)
        for sent in (signal.SIGSEGV, signal.SIGCONT):
            os.kill(process._popen.pid, sent)

    thread = threading.Thread(target=crash)
    thread.start()
    with pytest.raises(ValueError, match=r"input\[0\]: the file cannot be drawn: .* ended with SIGSEGV"):
        drawer.draw(file, 1, "input[0]")
    thread.join()
    assert drawer.draw(file, 1, "a").shape == PdfPage(file, 1).read().shape
    [process] = processes._idle  # one that ends while nobody asks it is nobody's fault
    process._popen.kill()
    process._popen.wait()
    assert drawer.count(file, "a") == 1
    [process] = processes._idle
    processes.close()
    assert process._popen.poll() is not None


def test_a_process_ends_when_its_caller_is_gone() -> None:
    processes = PageProcesses()
    PageDrawer(processes, 60).count(pictures((1, 1, 1)), "a")
    [process] = processes._idle
    assert process._popen.stdin is not None
    process._popen.stdin.close()
    assert process._popen.wait(10) == 0
    processes.close()


@pytest.mark.parametrize("most, is_set", [(resource.RLIM_INFINITY, True), (1000, True), (30, False)])
def test_a_limit_that_is_there_already_stays(most: int, is_set: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root may raise it: a process that tried to would end at the first page."""
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (most, most))
    monkeypatch.setattr(resource, "setrlimit", lambda which, pair: limits.append(pair))
    page_process._end_after(60)
    assert len(limits) == is_set
    assert all(hard == most and soft >= 60 for soft, hard in limits)

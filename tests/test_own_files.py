"""Files of ours are written where they lie, whatever links somebody has put there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from longspan.own_files import is_own, open_new, open_own


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that nobody may write to from elsewhere."""
    path = tmp_path / "victim"
    path.write_bytes(b"keep me")
    return path


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_new_file_takes_a_link_s_place(victim: Path, tmp_path: Path, link: object) -> None:
    place = tmp_path / "place"
    link(victim, place)
    assert not is_own(place)
    with open_new(place) as file:
        file.write(b"new")
    assert victim.read_bytes() == b"keep me" and place.read_bytes() == b"new" and is_own(place)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_file_to_go_on_with_becomes_a_copy(victim: Path, tmp_path: Path, link: object) -> None:
    place = tmp_path / "place"
    link(victim, place)
    with open_own(place) as file:
        file.seek(0, os.SEEK_END)
        file.write(b" and more")
    assert victim.read_bytes() == b"keep me" and place.read_bytes() == b"keep me and more" and is_own(place)


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        open_own(place)
    with open_new(place):
        pass
    assert not (tmp_path / "nowhere").exists()


def test_plain_files(tmp_path: Path) -> None:
    place = tmp_path / "place"
    assert not is_own(place)
    with open_own(place) as file:
        file.write(b"abc")
    with open_own(place) as file:
        assert file.read() == b"abc"
    with open_new(place) as file:
        assert file.read(0) == b"" if file.readable() else True
    assert place.read_bytes() == b""

"""Resumable runs: rows wait in a folder of their own, and a run goes on from its last complete block."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import pytest

from fake_encoder import names
from longspan.cli.console.failures import CommandError
from longspan.cli.files.stage import Stage, stage_folder
from longspan.cli.files.writers import publish
from staged_rows import F32, fill, rows

RUN = {"inputs": ["a.txt"], "limit": None}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.npy"


def opened(target: Path, run: dict[str, object] | None = None, dim: int = 5) -> Stage:
    return Stage(stage_folder(target, is_resumable=True), F32, dim, run=RUN if run is None else run)


def test_a_run_goes_on_from_its_last_complete_block(target: Path) -> None:
    vectors, kept = rows(30), [f'{{"id": {i}}}' for i in range(30)]
    first = opened(target)
    fill(first, vectors[:14], kept[:14])
    first.close()
    folder = target.parent / ".out.npy.partial"
    for name in ("vectors.npy", "kept.jsonl"):  # half a block more, that state.json does not count
        with open(folder / name, "ab") as handle:
            handle.write(b'{"id": 99}\n{"i')
    second = opened(target)
    assert second.rows == 14
    fill(second, vectors[14:], kept[14:])
    assert list(second.kept()) == kept
    publish(second, target, "npy")
    second.discard()
    np.testing.assert_array_equal(np.load(target), vectors, strict=True)
    assert names(target.parent) == ["out.npy"]


@pytest.mark.parametrize("crash_at", range(6))
def test_a_crash_between_any_two_steps_loses_no_counted_row(
    target: Path, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    vectors = rows(20)
    stage = opened(target)
    fill(stage, vectors[:10], block=5)
    steps = iter(range(100))
    real = {"fsync": os.fsync, "replace": os.replace}

    def stumble(name: str) -> None:
        if next(steps) == crash_at:
            raise KeyboardInterrupt

    def fsync(handle: int) -> None:
        stumble("fsync")
        real["fsync"](handle)

    def replace(source: Path, place: Path) -> None:
        stumble("replace")
        real["replace"](source, place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        patch.setattr(os, "replace", replace)
        with contextlib.suppress(KeyboardInterrupt):
            stage.append(vectors[10:], ["{}"] * 10)
    stage.close()
    again = opened(target)
    assert again.rows == (20 if crash_at >= 4 else 10)  # counted from the rename of state.json on
    (block,) = again.blocks()
    np.testing.assert_array_equal(block[1], vectors[: again.rows])
    again.discard()


def test_a_run_of_another_kind_is_not_gone_on_with(target: Path) -> None:
    opened(target).close()
    with pytest.raises(
        CommandError, match=r"\.out\.npy\.partial holds a run of another kind \(limit: null there, 3 now\)"
    ):
        opened(target, {**RUN, "limit": 3})
    with pytest.raises(CommandError, match=r"\(task: null there, \"x+\.\.\. now\); give the same options"):
        opened(target, {**RUN, "task": "x" * 100})
    opened(target).discard()
    opened(target, {**RUN, "limit": 3}).discard()


@pytest.mark.parametrize("state", [b"", b"{", b"[]", b"{}", b'{"run": {}, "rows": 1}'])
def test_a_damaged_state_is_named(target: Path, state: bytes) -> None:
    opened(target).close()
    (target.parent / ".out.npy.partial" / "state.json").write_bytes(state)
    with pytest.raises(CommandError, match=r"state\.json is damaged; delete .*\.out\.npy\.partial to start again"):
        opened(target)


@pytest.mark.parametrize("name", ["vectors.npy", "kept.jsonl"])
def test_lost_rows_are_noticed(target: Path, name: str) -> None:
    stage = opened(target)
    fill(stage, rows(20))
    stage.close()
    os.truncate(target.parent / ".out.npy.partial" / name, 30)
    with pytest.raises(CommandError, match=r"\.out\.npy\.partial lacks rows that it counts; delete it to start again"):
        opened(target)


def test_two_runs_do_not_share_a_stage(target: Path) -> None:
    first = opened(target)
    with pytest.raises(CommandError, match=r"another run is at work in .*\.out\.npy\.partial; wait for it"):
        opened(target)
    first.close()
    opened(target).discard()


@pytest.mark.parametrize("name", ["kept.jsonl", "vectors.npy", "state.json.new", "output.npy", "fields.jsonl"])
def test_no_row_goes_through_a_link(tmp_path: Path, name: str) -> None:
    """Somebody else may have made the folder where a resumable run's rows wait."""
    folder, victim = stage_folder(tmp_path / "out.npy", is_resumable=True), tmp_path / "victim"
    victim.write_bytes(b"keep me")
    folder.mkdir()
    (folder / name).symlink_to(victim)
    stage = Stage(folder, np.dtype(np.float32), 2, run={"a": 1})
    stage.append(np.ones((3, 2), np.float32), ["{}"] * 3)
    publish(stage, tmp_path / "out.npy", "npy", finish=lambda rows: rows, beside=tmp_path / "out.jsonl")
    stage.discard()
    assert victim.read_bytes() == b"keep me" and np.load(tmp_path / "out.npy").shape == (3, 2)


def test_rows_wait_in_a_folder_of_their_own(tmp_path: Path) -> None:
    folder, other = stage_folder(tmp_path / "out.npy", is_resumable=True), tmp_path / "other"
    other.mkdir()
    folder.symlink_to(other)
    with pytest.raises(CommandError, match="is a link, and rows wait in a folder of our own; remove it"):
        Stage(folder, np.dtype(np.float32), 2, run={"a": 1})
    assert not any(other.iterdir())

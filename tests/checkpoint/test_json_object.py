"""JSON of a checkpoint: getters that say which file and key is wrong, and files that are no JSON object."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from longspan import CheckpointError
from longspan.checkpoint import json_object
from longspan.checkpoint.json_object import JsonObject


@pytest.fixture
def config() -> JsonObject:
    values = {
        "n": 12,
        "eps": 1e-12,
        "name": "bert",
        "flag": True,
        "ids": [1, "a"],
        "rope": {"theta": 10000},
        "none": None,
    }
    return JsonObject(values, "config.json")


def test_getters_return_what_is_there(config: JsonObject) -> None:
    assert config.get_int("n") == 12
    assert config.get_float("eps") == 1e-12
    assert config.get_str("name") == "bert"
    assert config.get_bool("flag") is True
    assert config.get_list("ids") == [1, "a"]
    theta = config.get_object("rope").get_float("theta")
    assert isinstance(theta, float)
    assert theta == 10000.0
    assert list(config) == ["n", "eps", "name", "flag", "ids", "rope", "none"]


def test_default_stands_for_missing_and_null(config: JsonObject) -> None:
    assert config.get_int("none", 7) == 7
    assert config.get_int("absent", None) is None
    assert config.get_float("absent", 0.5) == 0.5
    assert config.get_object("absent", None) is None


@pytest.mark.parametrize(
    ("getter", "key", "noun"),
    [
        ("get_int", "flag", "an integer"),
        ("get_int", "eps", "an integer"),
        ("get_float", "flag", "a finite number"),
        ("get_float", "name", "a finite number"),
        ("get_str", "n", "a string"),
        ("get_bool", "n", "true or false"),
        ("get_list", "name", "a list"),
        ("get_object", "ids", "a JSON object"),
    ],
)
def test_wrong_type_names_file_and_key(config: JsonObject, getter: str, key: str, noun: str) -> None:
    with pytest.raises(CheckpointError, match=rf"config\.json: '{key}' must be {noun}, got "):
        getattr(config, getter)(key)
    with pytest.raises(CheckpointError, match=noun):
        getattr(config, getter)(key, None)  # a default excuses absence, not a wrong value


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "1" + "0" * 400])
def test_get_float_refuses_what_no_finite_float_holds(tmp_path: Path, number: str) -> None:
    (tmp_path / "c.json").write_text(f'{{"x": {number}}}')
    with pytest.raises(CheckpointError, match="'x' must be a finite number"):
        JsonObject.read(tmp_path / "c.json").get_float("x")


def test_required_key_is_named(config: JsonObject) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: 'hidden_size' is missing; it must be an integer"):
        config.get_int("hidden_size")
    with pytest.raises(CheckpointError, match=r"config\.json: rope: 'factor' is missing"):
        config.get_object("rope").get_float("factor")


@pytest.mark.parametrize("inside", ["", ".", "1_Pooling", "a/b", "./a..b"])
def test_get_path_stays_inside(inside: str) -> None:
    assert JsonObject({"path": inside}, "modules.json").get_path("path", Path("model")) == Path("model") / inside


@pytest.mark.parametrize("outside", ["..", "../x", "a/../../x", "/etc/passwd", "..\\x", "C:\\x", "C:x", "\\x", "a\0b"])
def test_get_path_refuses_to_leave(outside: str) -> None:
    with pytest.raises(CheckpointError, match=r"modules\.json: 'path' must be a path inside the folder, got "):
        JsonObject({"path": outside}, "modules.json").get_path("path", Path("model"))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "is not valid JSON"),
        (b'{"a": 1', "is not valid JSON"),
        (b"\xef\xbb\xbf{}", "is not valid JSON"),
        (b'{"a": "\xff"}', "is not UTF-8 text: byte 7 is 0xff"),
        ('{"a": 1}'.encode("utf-16"), "is not UTF-8 text"),
        (b"[1, 2]", r"must be a JSON object, got \[1, 2\]"),
        (b"null", "must be a JSON object, got None"),
        (b"[" * 200_000, "nests too deeply"),
        (b'{"a":' * 200_000, "nests too deeply"),
        (b'{"a": 1, "a": 2}', "the key 'a' appears twice"),
        (b'{"b": {"a": 1, "a": 2}}', "the key 'a' appears twice"),
    ],
)
def test_read_refuses_what_is_no_object(tmp_path: Path, data: bytes, complaint: str) -> None:
    (tmp_path / "config.json").write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"config\.json.* {complaint}"):
        JsonObject.read(tmp_path / "config.json", unique_keys=True)


def test_read_takes_the_last_of_twins_unless_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'{"a": 1, "a": 2}')
    assert JsonObject.read(tmp_path / "config.json").get_int("a") == 2


def test_read_refuses_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")  # reading one would wait for ever
    (tmp_path / "dangling.json").symlink_to(tmp_path / "gone")
    for name in ("absent", "folder", "pipe", "dangling"):
        with pytest.raises(CheckpointError, match=rf"{name}\.json is missing, or is not a file"):
            JsonObject.read(tmp_path / f"{name}.json")


def test_read_optional_excuses_only_absence(tmp_path: Path) -> None:
    assert len(JsonObject.read_optional(tmp_path / "absent.json")) == 0
    (tmp_path / "dangling.json").symlink_to(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="is missing"):
        JsonObject.read_optional(tmp_path / "dangling.json")


def test_read_bounds_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_object, "MAX_JSON_BYTES", 10)
    (tmp_path / "c.json").write_text('{"a":1}   ')
    assert JsonObject.read(tmp_path / "c.json").get_int("a") == 1
    (tmp_path / "c.json").write_text('{"a":1}    ')
    with pytest.raises(CheckpointError, match="is larger than 10 bytes"):
        JsonObject.read(tmp_path / "c.json")

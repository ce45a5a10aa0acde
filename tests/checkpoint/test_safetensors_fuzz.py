"""Files of safetensors with any bytes and any fields changed: each is read, or refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from longspan import CheckpointError
from longspan.checkpoint.safetensors_file import STORED, SafetensorsFile

FUZZ = settings(
    deadline=None, database=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def sound_file() -> bytes:
    """A small file that has it all: metadata, several dtypes, a scalar and an empty tensor."""
    header = {
        "__metadata__": {"format": "pt"},
        "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "none": {"dtype": "I64", "shape": [0, 4], "data_offsets": [24, 24]},
        "half": {"dtype": "BF16", "shape": [3], "data_offsets": [24, 30]},
        "flag": {"dtype": "BOOL", "shape": [], "data_offsets": [30, 31]},
    }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(range(31))


def read_or_refuse(path: Path, content: bytes) -> None:
    """Either every tensor reads, in the shape the header promises, or CheckpointError; anything else fails the test."""
    path.unlink(missing_ok=True)  # a new file each time: a map of the last one may be about
    path.write_bytes(content)
    try:
        file = SafetensorsFile(path)
    except CheckpointError:
        return
    for name in file.names:
        array = file.read(name)
        assert array.shape == file.shape(name)
        array.tobytes()


@FUZZ
@given(st.lists(st.tuples(st.integers(0, len(sound_file()) - 1), st.integers(0, 255)), max_size=4), st.integers(0, 400))
@example([], 0)
def test_fuzz_of_bytes(tmp_path: Path, mutations: list[tuple[int, int]], cut: int) -> None:
    content = bytearray(sound_file())
    for place, byte in mutations:
        content[place] = byte
    read_or_refuse(tmp_path / "m.safetensors", bytes(content[: len(content) - cut] if cut else content))


ODD_NUMBERS = st.one_of(st.integers(-2, 40), st.sampled_from([2**31, 2**53, 2**62, 2**63, 2**64 - 1, 2**64, 10**400]))


ODD_VALUES = st.one_of(
    ODD_NUMBERS, st.lists(ODD_NUMBERS, max_size=40), st.none(), st.booleans(), st.floats(), st.text(max_size=5)
)


ODD_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.one_of(st.sampled_from(sorted(STORED)), ODD_VALUES),
        "shape": ODD_VALUES,
        "data_offsets": ODD_VALUES,
    },
)


@FUZZ
@given(
    st.dictionaries(
        st.sampled_from(["w", "none", "half", "flag", "new", "__metadata__"]), st.one_of(ODD_FIELDS, ODD_VALUES)
    )
)
@example({"none": {"shape": [0, 2**62, 2**62]}})
def test_fuzz_of_fields(tmp_path: Path, changes: dict[str, object]) -> None:
    content = sound_file()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    for name, change in changes.items():
        header[name] = header.get(name, {}) | change if isinstance(change, dict) else change
    text = json.dumps(header).encode()
    read_or_refuse(tmp_path / "m.safetensors", len(text).to_bytes(8, "little") + text + content[8 + length :])

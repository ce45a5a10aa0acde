"""The lowest versions that pyproject.toml allows, as pins for pip: those of the runtime, and of the extras named.

    python .ci/lowest.py parquet images > pins.txt

Where Python is newer than a floor has wheels for, the first version that has takes its place.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

FLOOR = re.compile(r"([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?>=([0-9][0-9.]*)")
# From which Python on there are wheels from which version on.
FIRST_WHEELS = {
    "numpy": {(3, 12): "1.26.0", (3, 13): "2.1.0", (3, 14): "2.3.3"},
    "pyarrow": {(3, 13): "18.0.0", (3, 14): "22.0.0"},
    "pillow": {(3, 13): "11.0.0", (3, 14): "12.0.0"},
    "orjson": {(3, 14): "3.11.4"},
    "zstandard": {(3, 13): "0.23.0"},
}


def requirements(extras: list[str]) -> Iterator[str]:
    """The runtime's, and those of the extras; longspan's own are followed."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    lists = {"": _listed(text, "dependencies")}
    section = text.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    for name in extras:
        lists[name] = _listed(section, re.escape(name))
    for found in lists.values():
        for one in found:
            own = re.fullmatch(r"longspan\[([\w,-]+)\]", one)
            if own:
                yield from requirements(own[1].split(","))
            else:
                yield one


def _listed(text: str, name: str) -> list[str]:
    """The strings of `name = [...]`. Raises: SystemExit, there is no such list."""
    found = re.search(rf"^{name} = \[((?:[^\[\]\"]|\"[^\"]*\")*)\]", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"pyproject.toml has no list {name!r}")
    return re.findall(r'"([^"]*)"', found[1])


def pins(extras: list[str], python: tuple[int, int]) -> list[str]:
    """Each requirement's floor, or the first version with wheels for this Python."""
    lowest: dict[str, str] = {}
    for requirement in requirements(extras):
        floor = FLOOR.match(requirement)
        if floor is None:
            continue
        name, version = floor[1].lower(), floor[2]
        for since, first in FIRST_WHEELS.get(name, {}).items():
            if python >= since and _numbers(first) > _numbers(version):
                version = first
        if name not in lowest or _numbers(version) > _numbers(lowest[name]):
            lowest[name] = version
    return [f"{name}=={version}" for name, version in sorted(lowest.items())]


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


if __name__ == "__main__":
    print("\n".join(pins(sys.argv[1:], sys.version_info[:2])))

"""The suite for pytest-benchmark: `pytest bench`, with the options of that plugin and the two below."""

from __future__ import annotations

import pytest

from .case import Setting


def pytest_addoption(parser: pytest.Parser) -> None:
    """What pytest-benchmark cannot know."""
    group = parser.getgroup("longspan bench")
    group.addoption("--bench-threads", type=int, default=None, help="of every contestant (default: all)")
    group.addoption("--bench-numerics", default="float32", help="float32, bfloat16 or int8 (default: %(default)s)")


@pytest.fixture(scope="session")
def setting(request: pytest.FixtureRequest) -> Setting:
    """The short form."""
    from longspan import _core

    threads = request.config.getoption("--bench-threads") or _core.num_threads()
    _core.set_num_threads(threads)
    numerics = request.config.getoption("--bench-numerics")
    return Setting(threads, dtypes=tuple(dict.fromkeys(("float32", numerics))))


@pytest.fixture
def numerics(request: pytest.FixtureRequest) -> str:
    """What products are computed in."""
    return str(request.config.getoption("--bench-numerics"))

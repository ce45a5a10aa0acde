"""Triton kernels, one file per op; the backends of `longspan.ops` load them when a call first needs them.

The files lie in `kernels/` at the root of a checkout and are installed beside this one. In a checkout that is used
without being installed, this package looks there too.
"""

from __future__ import annotations

from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[3]
if (_CHECKOUT / "pyproject.toml").is_file() and (_CHECKOUT / "kernels").is_dir():
    __path__.append(str(_CHECKOUT / "kernels"))

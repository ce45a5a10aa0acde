"""The documentation's settings. `make docs` builds it, by `build.py`, which brings the pages together."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sphinx.pycode import ModuleAnalyzer

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from build import public_names  # noqa: E402
from docstrings import as_rst  # noqa: E402

import longspan  # noqa: E402

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "longspan"
author = "the longspan developers"
project_copyright = author
version = release = longspan.__version__

extensions = ["sphinx.ext.autodoc", "myst_parser"]
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*")]  # types in signatures, many of other libraries; links in texts are :py:obj:
autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"
myst_heading_anchors = 3
highlight_language = "none"  # of blocks that name none
suppress_warnings = ["myst.header", "misc.highlighting_failure"]

html_theme = "furo"
html_title = f"longspan {version}"
html_copy_source = False
html_show_sphinx = False
html_static_path = [str(HERE / "static")]
html_css_files = ["longspan.css"]

NAMES = public_names()


def process_docstring(app: Sphinx, what: str, name: str, value: Any, options: object, lines: list[str]) -> None:
    """Our sections as Sphinx's fields."""
    parts = name.split(".")
    owner = longspan
    for part in parts[1:]:
        owner = getattr(owner, part) if isinstance(getattr(owner, part, None), type) else owner
    text = "\n".join(lines).rstrip()
    text = re.sub(r"\n*[^\n]*; the class says what the arguments mean\.", "", text)
    lines[:] = as_rst(text, value, owner if isinstance(owner, type) else None, NAMES)


def setup(app: Sphinx) -> None:
    """Of overloads the one signature that lists every argument is shown; texts say what comes back."""
    app.connect("autodoc-process-docstring", process_docstring)
    analyze = ModuleAnalyzer.analyze

    def without_overloads(self: ModuleAnalyzer) -> None:
        analyze(self)
        self.overloads = {}

    ModuleAnalyzer.analyze = without_overloads  # type: ignore[method-assign]

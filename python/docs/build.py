"""Build the documentation: the reference, the guides and the examples as one site. `make docs` runs it.

Guides are the README.md files beside the code and the files at the root. They are copied with the links among them
turned to the copies; a link to anything else of the repository becomes its name.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from docstrings import PublicNames  # noqa: E402

LINK = re.compile(r"\[([^\]]+)\]\(([^)#:\s]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
DESCRIBED = re.compile(r"^\.\. auto(?:class|function|exception):: (longspan[\w.]*)$", re.MULTILINE)
FIRST = ("semantic_search", "small_vectors", "late_chunking_rag", "rerank", "colbert_rerank")  # of the examples
ELSEWHERE = {"spec": "longspan.ModelSpec"}  # an attribute, by the class that describes it


def guides() -> dict[Path, str]:
    """Each guide, and its page."""
    pages = {ROOT / "README.md": "readme"}
    pages |= {ROOT / f"{name}.md": name.lower() for name in ("CONTRIBUTING", "DECISIONS", "CHANGELOG")}
    found = [path for room in ("csrc", "bench", "python/longspan") for path in ROOT.glob(f"{room}/**/README.md")]
    for path in sorted(found):
        room = path.parent.relative_to(ROOT).parts
        is_package = room[:2] == ("python", "longspan")
        pages[path] = "guides/" + "-".join(room[2:]) if is_package else "development/" + "-".join(room)
    return pages


def public_names() -> PublicNames:
    """What the pages of the reference describe."""
    documented: dict[str, object] = {}
    for page in sorted((HERE / "api").glob("*.rst")):
        for full in DESCRIBED.findall(page.read_text("utf-8")):
            module, _, name = full.rpartition(".")
            documented[full] = getattr(importlib.import_module(module), name)
    return PublicNames(documented, ELSEWHERE)


def linked(text: str, source: Path, page: str, pages: dict[Path, str]) -> str:
    """A guide's text with its links turned to pages. Raises: SystemExit, one leads nowhere."""

    def turned(found: re.Match[str]) -> str:
        label, target, anchor = found[1], (source.parent / found[2]).resolve(), found[3] or ""
        if target in pages:
            return f"[{label}]({'../' * page.count('/')}{pages[target]}.md{anchor})"
        if not target.exists():
            raise SystemExit(f"{source.relative_to(ROOT)} links to {found[2]}, which is not there")
        return label if label.startswith("`") else f"{label} (`{target.relative_to(ROOT)}`)"

    parts = []
    end = 0
    for fence in FENCE.finditer(text):  # code is left alone
        parts += [LINK.sub(turned, text[end : fence.start()]), fence[0]]
        end = fence.end()
    parts.append(LINK.sub(turned, text[end:]))
    for place in range(0, len(parts), 2):  # a page has one title
        first = place == 0
        parts[place] = re.sub(r"^# ", "## ", parts[place], flags=re.MULTILINE)
        parts[place] = parts[place].replace("## ", "# ", 1) if first else parts[place]
    return "".join(parts)


def examples() -> Iterator[tuple[str, str, str]]:
    """Each example: its name, what it says it is, and its code."""
    found = {path.stem: path for path in sorted((ROOT / "python" / "examples").glob("*.py"))}
    for path in [*(found.pop(name) for name in FIRST), *found.values()]:
        code = path.read_text("utf-8")
        yield path.name, ast.get_docstring(ast.parse(code)) or "", code


def stage(folder: Path) -> None:
    """Bring all pages together in `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(HERE / "api", folder / "api")
    shutil.copy(HERE / "index.md", folder / "index.md")
    pages = guides()
    for source, page in pages.items():
        target = folder / f"{page}.md"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(linked(source.read_text("utf-8"), source, page, pages), "utf-8")
    lines = ["# Examples", "", "Each is a whole program; they lie in `python/examples`, and a test runs them.", ""]
    for name, said, code in examples():
        title, _, rest = said.partition("\n")
        program = code.split('"""', 2)[2].strip()
        lines += [f"## {title.rstrip('.')}", "", rest.strip(), "", f"`{name}`", "", "```python", program, "```", ""]
    (folder / "examples.md").write_text("\n".join(lines), "utf-8")


def main() -> int:
    """The command. Returns: Sphinx's exit code; a warning is an error."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "docs", help="(default: build/docs)")
    out: Path = parser.parse_args().out
    from sphinx.cmd.build import main as sphinx

    source = out.with_name(out.name + "-source")
    stage(source)
    code = sphinx(["-W", "-n", "-q", "-E", "--keep-going", "-c", str(HERE), str(source), str(out)])
    print(f"{out}/index.html" if code == 0 else "the documentation has faults")
    return code


if __name__ == "__main__":
    sys.exit(main())

"""What a user's type checkers, mypy --strict and pyright, say of README.md, the guides, the examples and our types.

The blocks of a guide are one module, as tests/test_guides.py runs them, each on the lines where it stands, so that a
message names the guide and its line. Frameworks that are not installed here count as Any; longspan itself never does.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "types"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MYPY = ["--strict", "--no-error-summary", "--ignore-missing-imports", "--config-file=", "--hide-error-context"]
# What has no types of its own is no fault of the code that calls it.
PYRIGHT = {
    "typeCheckingMode": "standard",
    "reportMissingImports": "none",
    "reportMissingModuleSource": "none",
    "extraPaths": [str(ROOT / "python")],
}


def guides() -> list[Path]:
    """README.md and the guides that hold Python."""
    found = [ROOT / "README.md", *ROOT.glob("*/README.md"), *ROOT.glob("python/longspan/**/README.md")]
    return [path for path in sorted(found) if BLOCK.search(path.read_text("utf-8"))]


def code_of(guide: Path) -> str:
    """The blocks' code on the guide's own lines; the rest is left empty."""
    text = guide.read_text("utf-8")
    lines = [""] * text.count("\n")
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines) + "\n"


def mypy_messages(modules: Sequence[Path]) -> list[str]:
    """What `mypy --strict` says of each module."""
    cache = ROOT / ".mypy_cache" / "guides"
    command = [sys.executable, "-m", "mypy", *MYPY, f"--cache-dir={cache}", *map(str, modules)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "MYPYPATH": str(ROOT / "python")}, check=False
    )
    if done.returncode > 1 or done.stderr:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout.splitlines()


def pyright_messages() -> list[str]:
    """What pyright says of the folder's modules."""
    (FOLDER / "pyrightconfig.json").write_text(json.dumps(PYRIGHT), "utf-8")
    command = [sys.executable, "-m", "pyright", "--outputjson", f"--pythonpath={sys.executable}", "-p", str(FOLDER)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["generalDiagnostics"]
    except (json.JSONDecodeError, KeyError):
        raise SystemExit(done.stdout + done.stderr) from None
    messages = []
    for one in found:
        line = one["range"]["start"]["line"] + 1
        messages.append(f"{one['file']}:{line}: {one['severity']}: {one['message']}  [{one.get('rule', 'pyright')}]")
    return messages


def main() -> int:
    """Print every message with the guide that it is about; 1 if there are any."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    origin = {}
    for guide in guides():
        module = FOLDER / f"{guide.relative_to(ROOT).parent.name or 'readme'}_guide.py"
        module.write_text(code_of(guide), "utf-8")
        origin[str(module)] = str(guide.relative_to(ROOT))
    for source in (ROOT / "tests" / "public_types.py", *sorted(ROOT.glob("python/examples/*.py"))):
        module = FOLDER / source.name
        shutil.copy(source, module)
        origin[str(module)] = str(source.relative_to(ROOT))
    messages = [*mypy_messages([Path(module) for module in origin]), *pyright_messages()]
    for message in messages:
        file, _, rest = message.partition(":")
        print(f"{origin.get(str(ROOT / file), file)}:{rest}")
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main())

"""No function that several files share may be compiled with one instruction set's flags.

A linker keeps one copy of each inline function. Were it the copy from an AVX-512 file, every other file would run it
too, and die on a machine without AVX-512. So the object files of an instruction set may define shared (weak) symbols
only in that instruction set's own namespace. Run after a build; reads the object files below build/.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

ISAS = (
    *("avx2", "avx_vnni", "avx512", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx"),
    *("neon", "neon_dotprod", "neon_i8mm"),
)
WEAK = set("WVu")


def leaks(object_file: Path, isa: str) -> list[str]:
    """The weak symbols that `object_file` defines outside namespace longspan::<isa>."""
    is_cross = isa.startswith("neon") and platform.machine() not in ("aarch64", "arm64")
    nm = "aarch64-linux-gnu-nm" if is_cross else "nm"
    listing = subprocess.run([nm, "-C", "--defined-only", object_file], check=True, capture_output=True, text=True)
    symbols = [line.split(maxsplit=2)[1:] for line in listing.stdout.splitlines()]
    return [
        name
        for kind, name in symbols
        # DW.ref: an address that exceptions need, no code.
        if kind in WEAK and f"longspan::{isa}::" not in name and not name.startswith("DW.ref.")
    ]


def main() -> int:
    """Prints each leak of the builds in the folder that is named, or below build/ but for those that only show that
    other compilers take the sources; exit status 1 if there is one, or if there is nothing to look at."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build")
    objects = [(path, isa) for isa in ISAS for path in folder.rglob(f"{isa}.cpp.o") if "compilers" not in path.parts]
    if not objects:
        print(f"check_isa_leaks: no object files below {folder}; run `make setup` first", file=sys.stderr)
        return 1
    found = [(path, name) for path, isa in objects for name in leaks(path, isa)]
    for path, name in found:
        print(f"{path}: shares {name}", file=sys.stderr)
    print(f"check_isa_leaks: {len(objects)} object files, {len(found)} leaks")
    return 1 if found else 0


sys.exit(main())

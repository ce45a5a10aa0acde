"""`python -m longspan` is the `longspan` command."""

from __future__ import annotations

import sys

from longspan.cli import main

if __name__ == "__main__":
    sys.exit(main())

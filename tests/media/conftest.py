"""The omni goldens and their models, which every file here reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from longspan import Encoder
from media_models import SIZES, Goldens, MediaGolden, Opened


@pytest.fixture(scope="session")
def goldens(golden: Path) -> Goldens:
    return {size: MediaGolden(golden / f"jina-v5-omni-{size}") for size in SIZES}


@pytest.fixture(scope="session")
def opened(goldens: Goldens) -> Opened:
    return {size: Encoder(omni.model) for size, omni in goldens.items()}

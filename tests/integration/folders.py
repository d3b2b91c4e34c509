"""Looking into folders from which others remove files at the same time."""

from __future__ import annotations

import os
from pathlib import Path


def below(folder: Path) -> list[Path]:
    """Every file and folder below it, sorted; what vanishes meanwhile may be left out. (`rglob` raises.)"""
    return sorted(
        Path(parent, name) for parent, folders, files in os.walk(folder) for name in (*folders, *files)
    )

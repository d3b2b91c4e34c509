"""What the version before left (`tests/fixtures/before`), at another place."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Final

BEFORE: Final = Path(__file__).resolve().parents[1] / "fixtures/before"
#: Where it ran.
RAN_IN: Final = "/tmp/" + "x" * 155


def unpacked(name: str, tmp_path: Path) -> Path:
    """The folder of an archive, at a path as long as the one where it was made, and may take its place."""
    root = Path(f"{tmp_path}/{'y' * (len(RAN_IN) - len(str(tmp_path)) - 1)}")
    root.mkdir()
    with tarfile.open(BEFORE / name) as archive:
        archive.extractall(root, filter="data")
    return root

"""The build backend of mrq: setuptools', which also builds the native data path where cargo is found.

A wheel then has the extension. Where there is no cargo, or the crates can't be had, it is a wheel of pure
Python that does the same, slower. An editable install never builds it: `make` does, as a step that is seen.
"""

from __future__ import annotations

import shutil
import sys
from typing import Any

import crates
from setuptools import build_meta
from setuptools.build_meta import (  # noqa: F401 the rest of the interface
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

#: What builds an extension from a Cargo.toml; pyproject.toml says which.
_RUST = ["setuptools-rust==1.13.0"]


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """What a wheel needs to be built here."""
    wanted = build_meta.get_requires_for_build_wheel(config_settings)
    return [*wanted, *(_RUST if shutil.which("cargo") else [])]


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: Any = None) -> str:
    """A wheel, with the extension where it can be built: it is optional to setuptools."""
    cargo = shutil.which("cargo")
    try:
        if cargo is not None:
            crates.settle(cargo)
    except crates.Pure as why:
        print(f"a wheel of pure Python: the native data path isn't built, since {why}", file=sys.stderr)
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)

"""infra/docs/pages.py, which makes what of docs/ is generated, for tests of it and of what it knows."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("pages", Path(__file__).parents[1] / "infra/docs/pages.py")
assert _spec is not None
assert _spec.loader is not None
pages = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(pages)

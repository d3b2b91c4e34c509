"""What mrq logs, as people see it."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator

from mrq.cli.console import Console


class _Lines(io.StringIO):
    """A stream of sentences."""

    encoding = "utf-8"

    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self._said = said

    def write(self, text: str) -> int:
        self._said.append(text.removesuffix("\n"))
        return len(text)


@contextlib.contextmanager
def listening() -> Iterator[list[str]]:
    """Within: what is logged under `mrq`, a sentence each, is put into the list; also what isn't shown."""
    said: list[str] = []
    handler, logger = Console(_Lines(said), environ={}), logging.getLogger("mrq")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)

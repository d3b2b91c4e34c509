"""What mrq logs, as a list of sentences."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


class _Said(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.INFO)
        self.said = said

    def emit(self, record: logging.LogRecord) -> None:
        note = "note: " if record.name == "mrq.notes" else ""
        self.said.append(note + self.format(record))


@contextlib.contextmanager
def listening() -> Iterator[list[str]]:
    """Within: what is logged under `mrq`, a sentence each, is in the list, also if nobody is shown it."""
    said: list[str] = []
    handler, logger = _Said(said), logging.getLogger("mrq")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)

"""The native data path's extension; its sources are under mrq/native."""

from collections.abc import Iterator
from typing import Any, Literal

#: As `mrq.native.INTERFACE`, or this extension isn't used.
INTERFACE: int

class Panic(BaseException):
    """What a panic of the extension's is raised as; a user's own extensions have others."""

def panic_now(text: str) -> None:
    """Panic, as a mistake in the extension does: so that a test can see what becomes of it."""

class FoldTable:
    """Ints by key, folded as they come."""

    def __init__(self, how: str, memory: int) -> None: ...
    @property
    def emitted(self) -> int:
        """Pairs that were taken."""

    def take(self, pairs: Iterator[Any]) -> Literal[True] | tuple[Any, Any] | None:
        """Take pairs: None once there are no more, True when the table must be written before more are taken,
        else the pair that the path in Python has to take, which comes before those that are left. Raises what
        the iterator raises, MemoryError."""

    def __len__(self) -> int: ...
    def keys(self, begin: int, end: int) -> list[Any]:
        """The keys of some positions, as they came first."""

    def deal(self, partitions: int, numbers: list[int] | None = None) -> None:
        """Deal the keys out, by hash or, where they are given, to these partitions."""

    def frames(self, partition: int) -> list[tuple[bytes, int, int]]:
        """A partition's frames, once keys are dealt out: payload, records and cost of each."""

    def clear(self) -> None:
        """Hold nothing."""

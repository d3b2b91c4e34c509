"""The native data path's extension; its sources are under mrq/native."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

#: As `mrq.native.INTERFACE`, or this extension isn't used.
INTERFACE: int

class Panic(BaseException):
    """What a panic of the extension's is raised as; a user's own extensions have others."""

def panic_now(text: str) -> None:
    """Panic, as a mistake in the extension does: so that a test can see what becomes of it."""

class _Table:
    @property
    def emitted(self) -> int:
        """Pairs that were taken."""

    def take(self, pairs: Iterator[Any]) -> Literal[True] | tuple[Any, Any] | None:
        """Take pairs: None once there are no more, True when the table must be written before more are taken,
        else the pair that the path in Python has to take, which comes before those that are left. Raises what
        the iterator raises, MemoryError."""

    def __bool__(self) -> bool:
        """Whether anything is held."""

    def deal(self) -> None:
        """Deal what is held out to the partitions."""

    def frames(self, partition: int) -> list[tuple[bytes, int, int]]:
        """A partition's frames, sorted by key, once all is dealt out: payload, records and cost of each."""

    def clear(self) -> None:
        """Hold nothing."""

class FoldTable(_Table):
    """Ints by key, folded as they come: count, sum, min or max."""

    def __init__(
        self, how: str, memory: int, partitions: int, boundaries: Sequence[Any] | None = None
    ) -> None: ...

class PairTable(_Table):
    """Pairs, as they come."""

    def __init__(self, memory: int, partitions: int, boundaries: Sequence[Any] | None = None) -> None: ...

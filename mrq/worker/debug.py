"""`MRQ_DEBUG`: makes a worker misbehave on purpose, to see that the rest copes.

    MRQ_DEBUG=fail_after=N[:crash|hang|error]

After N tasks of a worker, its next one crashes its executor (the default), hangs without progress, or
raises. Once a worker's life, so that a job can recover. It acts on executors, never on the agent.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mrq.errors import UsageError

VARIABLE: Final = "MRQ_DEBUG"
GRAMMAR: Final = "fail_after=N[:crash|hang|error]"
_PATTERN: Final = re.compile(r"fail_after=([0-9]{1,9})(?::([a-z]+))?")


class Fault(enum.Enum):
    """What the executor does."""

    CRASH = "crash"  # kills itself
    HANG = "hang"  # sleeps without progress
    ERROR = "error"  # raises


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugSwitch:
    after: int  #: tasks that run as they should before the one that doesn't
    fault: Fault

    def __str__(self) -> str:
        verb = {Fault.CRASH: "crashes its executor", Fault.HANG: "hangs", Fault.ERROR: "raises an error"}
        return f"{VARIABLE}: after {self.after} tasks of a worker, the next one {verb[self.fault]}"


def parse(environ: Mapping[str, str]) -> DebugSwitch | None:
    """The switch that the environment sets, or None. Raises UsageError, with the grammar."""
    text = environ.get(VARIABLE, "").strip()
    if not text:
        return None
    found = _PATTERN.fullmatch(text)
    names = [fault.value for fault in Fault]
    if found is None or (found[2] is not None and found[2] not in names):
        raise UsageError(f"{VARIABLE}={text!r} isn't understood; it is {VARIABLE}={GRAMMAR}")
    return DebugSwitch(after=int(found[1]), fault=Fault(found[2] or Fault.CRASH.value))

"""The pulse of a role's loop: a file that the loop touches while it ticks, and what a healthcheck runs.

A process may be there while its loop is stuck; a pulse says that the loop itself goes round.
`python -m mrq.health` exits 0 when the file that `MRQ_HEALTH_FILE` names was touched within the last ten
seconds and holds nothing, else 1 with a line that says why: the file's own, where the role wrote one.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

#: The environment's name for the pulse's file.
HEALTH_FILE = "MRQ_HEALTH_FILE"
#: Ticks are written at most this often.
EVERY_S = 1.0
#: A pulse older than this is a loop that doesn't tick.
STALE_S = 10.0


def health_file(root: Path) -> Path:
    """Where a role with this folder writes its pulse: as the environment says, else `health` in it."""
    named = os.environ.get(HEALTH_FILE)
    return Path(named) if named else root / "health"


class Pulse:
    """Called at each turn of a loop; writes at most once a second, and never fails the loop.

    A disk that takes no writes shows as a stale pulse, which is what the check is there to see.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._due = 0.0
        self._trouble = ""
        self._written: str | None = None
        path.parent.mkdir(parents=True, exist_ok=True)

    def tick(self) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + EVERY_S
        try:
            self._path.touch()
            os.utime(self._path)
            said = self._trouble
            if said != self._written:
                self._path.write_text(said, errors="replace")
                self._written = said
        except OSError:
            return

    def trouble(self, said: str) -> None:
        """What keeps this role from its work though its loop ticks; "" for nothing. From any thread; written
        with the next tick."""
        self._trouble = said

    def stop(self) -> None:
        """The loop has ended in order: no pulse is left that looks alive for some seconds more."""
        self._path.unlink(missing_ok=True)


def failing(path: Path, *, now: float) -> str | None:
    """Why the loop behind this file doesn't tick, or what keeps it from its work, or None; `now` in seconds
    of the epoch."""
    try:
        age = now - path.stat().st_mtime
        trouble = path.read_text(errors="replace")
    except OSError as error:
        return f"no pulse at {path}: {error.strerror or error}"
    if age > STALE_S:
        return f"the loop last ticked {age:.0f} s ago (at most {STALE_S:.0f})"
    return trouble or None


def main() -> int:
    named = os.environ.get(HEALTH_FILE)
    why = failing(Path(named), now=time.time()) if named else f"{HEALTH_FILE} is not set"
    if why is not None:
        sys.stderr.write(why + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

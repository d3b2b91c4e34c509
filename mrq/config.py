"""Bounds and intervals of the roles, in one place, with where each comes from.

Every value can be overridden where the role is made; nothing here is read at import time by others.
"""

from __future__ import annotations

import os
from typing import Final

#: A worker's beat: every second, suspect at 5, dead at 15.
BEAT_INTERVAL_S: Final = 1.0
#: The embedded agent shares the leader's process: a faster beat costs nothing and shows progress.
EMBEDDED_BEAT_INTERVAL_S: Final = 0.2
#: Job folders of dead owners older than this are swept at start.
LEFTOVER_AGE_S: Final = 7 * 24 * 3600.0
#: How long a log stays that was uploaded because somebody asked for it.
LOG_KEEP_S: Final = 24 * 3600.0
#: --reducers at most.
REDUCERS_MAX: Final = 10_000
#: --executors at most.
EXECUTORS_MAX: Final = 1024
#: --memory per executor: the default and the least.
MEMORY_BYTES: Final = 512 << 20
MEMORY_BYTES_MIN: Final = 16 << 20


def temp_root() -> str:
    """`MRQ_TMP/mrq-UID`: the one folder of all temporary data. Not created here."""
    base = os.environ.get("MRQ_TMP")
    if not base:
        import tempfile  # executors, which import this module, have no need of it

        base = tempfile.gettempdir()
    return os.path.join(os.path.abspath(base), f"mrq-{os.getuid()}")

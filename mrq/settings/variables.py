"""The environment's variables that are no settings of a cluster, and what follows from them."""

from __future__ import annotations

import enum
import math
import os
import re
from collections.abc import Mapping
from typing import Final

from mrq.errors import UsageError

_KEEP: Final = "MRQ_KEEP_DAYS"
_KEEP_DAYS: Final = 7.0
NATIVE: Final = "MRQ_NATIVE"

#: What each is for; "" of what we tell our own processes.
VARIABLES: Final[Mapping[str, str]] = {
    "MRQ_CLUSTER": "the cluster that is meant where `--cluster` doesn't say it",
    "MRQ_TMP": "where temporary data goes; default: the system's temporary folder. It should be a local disk "
    "with room for the shuffle",
    _KEEP: "leftovers of failed and killed runs older than this are swept; default 7",
    NATIVE: "`auto`: the native data path where it is built, which gives the same answers as the one in "
    "Python, sooner; `off`: never; `require`: nothing runs without it. Default `auto`",
    "MRQ_DEBUG": "`fail_after=N[:crash\\|hang\\|error]` makes attempts fail after N tasks of a worker, to "
    "see what mrq does; shown at start",
    "MRQ_HEALTH_FILE": "",
    "MRQ_EXECUTOR": "",
    "NO_COLOR": "not empty: no colours",
    "TERM": "`dumb` or unset: plain lines instead of the live display",
}
#: Those of compose.yaml.
COMPOSE: Final = re.compile(
    r"MRQ_(DATA|PROJECT|VERSION|WORKERS|STOP_GRACE|AMQP_PORT|REDIS_PORT|(RABBITMQ|REDIS|MASTER|WORKER)_(MEMORY|CPUS))"
)


class Native(enum.Enum):
    """What `MRQ_NATIVE` may say."""

    AUTO = "auto"
    OFF = "off"
    REQUIRE = "require"


def native() -> Native:
    """Whether the native data path may be used. Raises UsageError for another word."""
    text = os.environ.get(NATIVE, "").strip() or Native.AUTO.value
    try:
        return Native(text)
    except ValueError:
        raise UsageError(f"{NATIVE}={text}: give auto, off or require, or unset it") from None


def temp_root() -> str:
    """`MRQ_TMP/mrq-UID`: the one folder of all temporary data. Not created here."""
    base = os.environ.get("MRQ_TMP")
    if not base:
        import tempfile  # executors have no need of it

        base = tempfile.gettempdir()
    return os.path.join(os.path.abspath(base), f"mrq-{os.getuid()}")


def keep_s() -> float:
    """How old leftovers may grow, in seconds; 0 sweeps at every start. Raises UsageError for a value that
    isn't a number."""
    text = os.environ.get(_KEEP, "").strip()
    try:
        days = float(text or _KEEP_DAYS)
    except ValueError:
        days = math.nan
    if not days >= 0:
        raise UsageError(f"{_KEEP}={text}: give a number of days, such as 7, or unset it")
    return days * 24 * 3600

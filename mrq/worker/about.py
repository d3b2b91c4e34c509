"""What a worker says about itself: with a boot's first beat, when it changes, and now and then."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

import mrq
from mrq.worker.debug import DebugSwitch
from mrq.worker.room import Room


def packages() -> dict[str, str]:
    """Every installed distribution, with its version; names as their metadata have them."""
    from importlib.metadata import distributions

    found: dict[str, str] = {}
    for each in distributions():
        name = each.metadata["Name"]
        if name:  # half an installation has none
            found.setdefault(name, each.version or "")
    return dict(sorted(found.items()))


def about(
    *,
    installed: Mapping[str, str],
    debug: DebugSwitch | None,
    room: Room,
    notes: tuple[str, ...],
    serving: str = "",
    leaving: str = "",
    ended: Sequence[tuple[str, str]] = (),
) -> Mapping[str, Any]:
    """`Beat.about`: what `WorkerInfo` shows, and whose place it has taken. As msgpack has it."""
    return {
        "version": mrq.__version__,
        "python": platform.python_version(),
        "packages": dict(installed),
        "disk_used": room.used,
        "disk_quota": room.quota,
        "disk_free": room.free,
        "debug": str(debug) if debug is not None else "",
        "full": room.note or "",
        "notes": list(notes),
        "serving": serving,
        "leaving": leaving,
        "ended": [list(each) for each in ended],
    }

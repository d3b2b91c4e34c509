"""The machine's checkpoint: one versioned msgpack value."""

from __future__ import annotations

from typing import Any, Final

import msgpack

from mrq.core import wire
from mrq.core.jobs import Job
from mrq.core.machine_config import MachineConfig
from mrq.core.machine_state import State, timer_fields
from mrq.core.refs import Kind
from mrq.errors import CorruptFileError

MAGIC: Final = "mrq machine"
VERSION: Final = 5


def dump(state: State) -> bytes:
    """All that a machine holds, but for the commands that it has returned."""
    body = {
        "config": wire.to_wire(state.config),
        "now": state.now,
        "promised": state.promised,
        "beats_from": state.beats_from,
        "incarnation": state.incarnation,
        "serial": state.serial,
        "history": list(state.history.lines),
        "jobs": [job.save() for job in state.jobs.values()],
        "active": list(state.active),
        "workers": state.workers.save(),
        "timers": state.timers,
        "unclaimed": [list(state.unclaimed[kind]) for kind in Kind],
        "rate": [[state.rate[kind], state.rate_count[kind]] for kind in Kind],
        "rate_from": state.rate_from,
        "fit": [state.fitted_at, state.fit_due],
        "disks": state.disks_watched,
        "lost": state.lost_boots,
    }
    return wire.pack([MAGIC, VERSION, wire.VERSION, body])


def restore(data: bytes, now: float, config: MachineConfig | None) -> State:
    """The state that `dump` gave, as though no time had passed. Raises CorruptFileError."""
    try:
        magic, version, wire_version, body = wire.unpack(data)
    except (ValueError, TypeError, msgpack.UnpackException) as exc:
        raise CorruptFileError(f"the checkpoint can't be read: {exc}") from exc
    if magic != MAGIC or (version, wire_version) != (VERSION, wire.VERSION):
        raise CorruptFileError(
            f"the checkpoint is of version {version}.{wire_version}, this mrq reads "
            f"{VERSION}.{wire.VERSION}; use the mrq that wrote it, or start the job again"
        )
    try:
        return _rebuild(body, now, config)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as exc:
        raise CorruptFileError(f"the checkpoint is damaged: {exc!r}") from exc


def _rebuild(body: dict[str, Any], now: float, config: MachineConfig | None) -> State:
    state = State(config or wire.from_wire(MachineConfig, body["config"]))
    state.now, state.promised, state.beats_from = body["now"], body["promised"], body["beats_from"]
    state.history.now = state.now
    state.shift = now - state.now
    state.incarnation, state.serial = body["incarnation"], body["serial"]
    for t, who, old, new, why in body["history"]:
        state.history.lines.append((t, who, old, new, why))
    for saved in body["jobs"]:
        job = Job.load(saved, state.history, state.totals)
        state.jobs[job.spec.job] = job
    state.active = {name: state.jobs[name] for name in body["active"]}
    state.workers.load(body["workers"])
    state.timers = [timer_fields(row) for row in body["timers"]]
    for kind, entries in zip(Kind, body["unclaimed"], strict=True):
        state.unclaimed[kind].extend((due, name, index, published) for due, name, index, published in entries)
    for kind, (rate, count) in zip(Kind, body["rate"], strict=True):
        state.rate[kind], state.rate_count[kind] = rate, count
    state.rate_from = body["rate_from"]
    state.fitted_at, state.fit_due = body["fit"]
    state.disks_watched = body["disks"]
    state.lost_boots = [(at, boot) for at, boot in body.get("lost", ())]
    return state

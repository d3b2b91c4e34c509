"""How a worker stands, for people: why it isn't simply taking tasks, and how that ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mrq.core.machine_config import MachineConfig
from mrq.core.model import WorkerHealth
from mrq.core.workers import WorkerView


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Both are empty of a worker that is well."""

    reason: str  #: why it has the health that it has, or what is amiss with one that is alive
    ends: str  #: what has to happen, or who has to do what, for it to be well again


_WELL = Standing(reason="", ends="")


def standing(view: WorkerView, *, silent_s: float, config: MachineConfig) -> Standing:
    """How a worker stands that hasn't been heard of for `silent_s`."""
    match view.health:
        case WorkerHealth.ALIVE:
            return _alive(view)
        case WorkerHealth.SUSPECT:
            return Standing(
                reason=f"no beat came for {silent_s:.0f} s",
                ends=f"with its next beat; without one for {config.dead_after_s:g} s it counts as dead",
            )
        case WorkerHealth.DEAD:
            return _dead(view, config)
        case WorkerHealth.JOINING:
            return Standing(
                reason=view.trouble or f"the leader hasn't reached it yet at {view.address}",
                ends=f"when the leader reaches it, which it tries again every {config.dial_again_s_max:g} s "
                "at least",
            )
        case WorkerHealth.DRAINING:
            leaving = str(view.about.get("leaving", ""))
            return Standing(
                reason=leaving or view.trouble or "it was told to stop (SIGTERM)",
                ends="when what it runs has ended and nobody needs its map outputs, or after its drain "
                "timeout: then it leaves",
            )
        case WorkerHealth.QUARANTINED:
            return Standing(
                reason=_why(view),
                ends=f"mrq workers readmit {view.worker}",
            )


def listed(views: Iterable[WorkerView], *, now: float, config: MachineConfig) -> list[WorkerView]:
    """Those that a list of workers shows, in their order; `now` on the clock of `last_beat`.

    What a dead worker ran or kept for others was given away when it died, so there is little to say of it,
    and soon nothing. Where another one has taken its place there is nothing from then on: it listens at the
    dead one's address, or found its boot to be over when it began on the same disk. In containers that are
    made anew workers have other names, and the old ones would only be in the way.
    """
    views = list(views)
    there = [view for view in views if view.health is not WorkerHealth.DEAD]
    addresses = {view.address for view in there if view.address and view.health is not WorkerHealth.JOINING}
    ended = {tuple(boot) for view in there for boot in view.about.get("ended", ())}

    def shows(view: WorkerView) -> bool:
        if view.health is not WorkerHealth.DEAD:
            return True
        replaced = view.address in addresses or (view.worker, view.boot) in ended
        return not replaced and now - view.last_beat < _listed_s(view, config)

    return [view for view in views if shows(view)]


def _listed_s(view: WorkerView, config: MachineConfig) -> float:
    """For how long after its last beat a dead worker is listed: in quarantine an operator's word is out."""
    return config.forget_worker_s if view.quarantine is not None else config.list_dead_s


def _dead(view: WorkerView, config: MachineConfig) -> Standing:
    reason = f"it said goodbye, or no beat came for {config.dead_after_s:g} s"
    ends = "when it is started again"
    if view.quarantine is not None:
        reason += f"; and it is in quarantine: {_why(view)}"
        ends += f", and let in: mrq workers readmit {view.worker}"
    return Standing(
        reason=reason,
        ends=f"{ends}; this row goes when another worker takes its place, or "
        f"{_listed_s(view, config) / 60:g} min after its last beat",
    )


def _why(view: WorkerView) -> str:
    told = view.quarantine.why if view.quarantine is not None else ""
    return told or "an earlier leader put it there: that one's log, or the worker's, says why"


def _alive(view: WorkerView) -> Standing:
    serving = str(view.about.get("serving", ""))
    if serving:
        return Standing(reason=serving, ends="when it serves again, for which it is started anew")
    full = str(view.about.get("full", ""))
    if full:
        return Standing(reason=full, ends="when jobs end and leave room, or it is given more")
    return _WELL

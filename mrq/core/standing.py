"""How a worker stands, for people: why it isn't simply taking tasks, and how that ends."""

from __future__ import annotations

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
            return Standing(
                reason=f"it said goodbye, or no beat came for {config.dead_after_s:g} s",
                ends="when it is started again; the row goes "
                f"{config.forget_worker_s / 60:g} minutes after its end",
            )
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
                reason=view.why
                or "an earlier leader put it there: that one's log, or the worker's, says why",
                ends=f"mrq workers readmit {view.worker}",
            )


def _alive(view: WorkerView) -> Standing:
    serving = str(view.about.get("serving", ""))
    if serving:
        return Standing(reason=serving, ends="when it serves again, for which it is started anew")
    full = str(view.about.get("full", ""))
    if full:
        return Standing(reason=full, ends="when jobs end and leave room, or it is given more")
    return _WELL

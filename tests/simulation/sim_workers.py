"""Workers that die: of a task that takes them down, and one after another for reasons of their own; and jobs
of several stages, between which parts are lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sim_checks import Broken
from sim_plan import Plan, chain, deadly, draw, storm
from sim_world import World

from mrq.core.model import JobState

#: Two deaths beside others and three alone are the rule. A death that nobody can lay to the task (a backup's,
#: one before the claim was heard of) looks like another's, near which a loss alone doesn't count: then ten
#: losses in all are the bound.
_DEATHS_MAX: Final = 10


def any_end(world: World) -> None:
    """What the world checks by itself is enough."""


def only_the_deadly_job_fails(world: World) -> None:
    """A task takes its worker down whenever it runs: its job fails by that name after some deaths, on a
    single worker as on five, and the good jobs beside it are done. Raises Broken."""
    for job, (state, error) in world.oracle.over.items():
        if job not in world.oracle.deadly:
            if state is not JobState.DONE:
                raise Broken(f"{job} is {state}: {error}, beside a deadly one")
        elif state is not JobState.FAILED or not any(
            bound in (error or "") for bound in ("took its worker down 3 times", "was lost with 10 boots")
        ):
            raise Broken(f"{job} takes workers down, and is {state}: {error}")
    deaths = world.faults_seen["taken down"] + world.faults_seen["taken down alone"]
    if deaths > _DEATHS_MAX:
        raise Broken(f"{deaths} workers died of one task")


def no_good_job_fails(world: World) -> None:
    """Fifteen kills in 20 s on ten workers. Raises Broken."""
    for job, (state, error) in world.oracle.over.items():
        if state is not JobState.DONE:
            raise Broken(f"{job} is {state}: {error}, for a storm of kills")


def a_chain_ends(world: World) -> None:
    """A job of several stages is done, or so many parts were lost that it fails by that name. Raises
    Broken."""
    for job, (state, error) in world.oracle.over.items():
        if state is not JobState.DONE and "began again at its first stage" not in (error or ""):
            raise Broken(f"{job} is {state}: {error}, for parts that were lost")


#: What there is to be simulated: a plan, and what must have become of it.
KINDS: Final[Mapping[str, tuple[Callable[[int], Plan], Callable[[World], None]]]] = {
    "all": (draw, any_end),
    "deadly": (deadly, only_the_deadly_job_fails),
    "storm": (storm, no_good_job_fails),
    "chain": (chain, a_chain_ends),
}


def world_of(kind: str, seed: int, *, log: bool = False) -> World:
    """A world that is to be run, and then looked at with `check`."""
    return World(seed, log=log, plan=KINDS[kind][0](seed))


def check(kind: str, world: World) -> World:
    """Look at a world that was run. Raises Broken."""
    KINDS[kind][1](world)
    return world

"""What programs call: `mrq.run`, `mrq.local` and `mrq.connect`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mrq.io.disk import working_folder
from mrq.job import bundle
from mrq.job.base import Job
from mrq.planning import Path, Plan, Request, plan
from mrq.result import JobFailed, Result, Summary

if TYPE_CHECKING:
    from mrq.engine.engine import Engine

__all__ = ["JobFailed", "Plan", "Request", "Result", "Summary", "connect", "local", "plan", "run"]


def connect(cluster: str | None = None, *, timeout_s: float | None = None) -> Engine:
    """A cluster's engine: what `mrq.local` gives, its jobs run by the cluster; a context manager.

    `cluster` is a profile of mrq.toml, the path of a mrq.toml, or a Redis URL; None is what the surroundings
    say (MRQ_CLUSTER, MRQ_AMQP_URL with MRQ_REDIS_URL, mrq.toml). Connects with the first job. Raises
    UsageError where no cluster is named, or half of one.
    """
    from dataclasses import replace

    from mrq.engine.remote import cluster_engine
    from mrq.errors import UsageError, UsageTypeError, UsageValueError
    from mrq.settings import cluster as profile
    from mrq.settings.checks import seconds

    bundle.refuse_while_importing("mrq.connect")
    if cluster is not None and not isinstance(cluster, str):
        raise UsageTypeError(
            f"mrq.connect takes the name of a profile, the path of a mrq.toml or a Redis URL, not {cluster!r}"
        )
    if timeout_s is not None:
        try:
            timeout_s = seconds(timeout_s)
        except ValueError as exc:
            raise UsageValueError(f"timeout_s must be {exc}") from None
    cwd, name = working_folder(), cluster
    if cluster is not None and os.path.isfile(cluster):
        cwd, name = os.path.dirname(os.path.abspath(cluster)), None
    choice = profile.choose(name, env=os.environ, cwd=cwd, named_by="mrq.connect")
    if choice.name == profile.LOCAL:
        raise UsageError(
            "mrq.connect names no cluster: give a profile of mrq.toml or a Redis URL, or set MRQ_AMQP_URL "
            "and MRQ_REDIS_URL; mrq.local() is an engine on this machine"
        )
    found = profile.load(name, flags={}, env=os.environ, cwd=cwd, named_by="mrq.connect")
    return cluster_engine(found if timeout_s is None else replace(found, timeout_s=timeout_s))


def local(*, executors: int | None = None) -> Engine:
    """An engine on this machine whose executors stay warm between runs; use it as a context manager."""
    from mrq.engine.local import local_engine

    bundle.refuse_while_importing("mrq.local")
    return local_engine(executors=executors)


def run(
    job: Job | type[Job] | str,
    inputs: Sequence[Path] | Result | None = None,
    output: Path | None = None,
    *,
    records: Iterable[Any] | None = None,
    executors: int | None = None,
    overwrite: bool = False,
    **overrides: Any,
) -> Result:
    """Run a job on this machine and wait for it.

    `inputs` are paths, globs or URLs, or another result; or give `records`: values, whose keys are then
    positions as in a text file, or tuples of (key, value). Without `output` the result is private: it is
    removed when it is collected. `overrides` are settings by name (`reducers=4`). Raises UsageError before
    anything runs, JobFailed when the job fails, OperatorError when the machine must be looked after.
    """
    bundle.refuse_while_importing("mrq.run")
    engine = local(executors=executors)
    try:
        result = engine.run(job, inputs, output, records=records, overwrite=overwrite, **overrides)
    except BaseException:
        engine.close()
        raise
    if output is not None:
        engine.close()
    else:
        engine.close_when_collected(result)
    return result

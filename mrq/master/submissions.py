"""A submit, from a client's draft to a job that the loop has: planned where the data is, outside the loop.

Everything here may be done again by the next leader, when this one dies on the way: the draft has the job's
id, the claim on OUT is the cluster's, and a job that is known is only answered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import mrq
from mrq.commit import claim, owner
from mrq.core import wire
from mrq.core.model import FOLLOWS, JobSpec, Needs, StageSpec
from mrq.core.needs import distributions, lacking
from mrq.core.paths import check_job_id
from mrq.core.refs import Kind
from mrq.errors import DiskFullError, MrqError, OperatorError, OutputError, UsageError
from mrq.io.plan import Draft, Plan, complete
from mrq.master.disk_probe import DiskProbe, nearest
from mrq.master.known_jobs import KnownJobs
from mrq.master.shared import SharedRoot, unseen
from mrq.master.views import Views
from mrq.ports import Blobs
from mrq.settings import job as settings

T = TypeVar("T")


@dataclass(eq=False, kw_only=True)
class Submissions:
    """Takes drafts. Its methods may be called from several threads at once."""

    jobs: KnownJobs
    views: Views
    blobs: Blobs
    shared: SharedRoot
    shares: DiskProbe
    cluster: owner.Cluster | None
    #: Jobs that are being submitted at this moment.
    _planning: set[str] = field(default_factory=set, init=False)
    #: Of them, those that were cancelled meanwhile.
    _unwanted: set[str] = field(default_factory=set, init=False)

    def announce(self, job: str) -> None:
        """A submit that will be done: from now on its job can be taken back."""
        self._planning.add(job)

    def take_back(self, job: str) -> bool:
        """Cancel a job that is being submitted; False when it isn't."""
        if job not in self._planning:
            return False
        self._unwanted.add(job)
        return True

    def planned(self) -> set[str]:
        """The jobs that are being submitted at this moment."""
        return set(self._planning)

    def submit(self, draft: Draft) -> dict[str, Any]:
        """The answer. Raises UsageError and its kind when the draft is refused."""
        job = check_job_id(draft.spec.job)
        try:
            _refuse(draft)
            if self.jobs.knows(job):
                return {"job": job, "notes": []}
            unsent = self._unsent(draft)
            if unsent:
                return unsent
            notes = self.begin(draft)
            self.jobs.taken()
            return {"job": job, "notes": notes}
        finally:
            self._planning.discard(job)
            if job in self._unwanted:
                self._unwanted.discard(job)
                self.jobs.take_back(job)

    def plan(self, draft: Draft) -> dict[str, Any]:
        """The answer to a dry run: the files that a submit would find, of which the client cuts the same
        splits. Nothing is made. Raises what a submit is refused with."""
        _refuse(draft)
        unsent = self._unsent(draft)
        if unsent:
            return unsent
        plan = complete(self.shared.placed(draft))
        self._of_output(claim.check, plan)
        return {"finding": wire.to_wire(plan.finding), "slots": self.views.slots()}

    def slots_of(self, kind: Kind, most: int | None) -> int:
        """Tasks of a kind that run at once, of a job with `most` at once."""
        there = self.views.slots(kind)
        return there if most is None else min(there, most)

    def _unsent(self, draft: Draft) -> dict[str, Any]:
        """The answer where the client must send what isn't seen here; nothing where it may be planned. Raises
        UsageError and its kind when the draft is refused."""
        check_packages(draft.spec.packages, self.views.packages())
        missing = unseen(draft)
        if missing:
            return {"unseen": list(missing), "why": list(missing.values())}
        self._refuse_apart(draft)
        return {}

    def _refuse_apart(self, draft: Draft) -> None:
        """Raise OutputError for an OUT that some worker doesn't share, OperatorError for such a root."""
        output, root = draft.spec.output_open, self.shared.root
        apart = self.shares.check(nearest(output)) if output is not None else None
        if apart is not None:
            raise OutputError(
                f"{draft.spec.output}: {apart}; OUT must lie on a disk that masters and workers share, such "
                f"as that of the shared root ({root}): write it there, or mount that folder there too"
            )
        if output is None or any(given.is_sent for given in draft.inputs):
            apart = self.shares.check(root)
        if apart is not None:
            raise OperatorError(
                f"{apart}, which is for inputs that are sent and results without OUT: set shared_root "
                "(MRQ_SHARED_ROOT) to a folder that all of them mount"
            )

    def begin(self, draft: Draft) -> list[str]:
        """Plan a draft of which everything is here, and take its job; notes for whoever submitted it. Raises
        UsageError and its kind, DiskFullError, OperatorError."""
        spec = draft.spec
        code = draft.code or self.blobs.get(spec.code)
        if code is None:
            raise OperatorError(f"the code of job {spec.job} isn't kept any more; submit again")
        plan = complete(self.shared.materialise(draft, self.blobs))
        staging = self._of_output(partial(claim.prepare, claim=spec.claim), plan)
        try:
            output = self._output(spec)
            self.jobs.take(replace(plan.spec, output_open=output, staging=staging.folder), code)
        except BaseException as exc:
            away = isinstance(exc, OperatorError) and not isinstance(exc, DiskFullError)
            if not away:  # else it may have been taken, by an answer that was lost: the claim stays
                claim.abandon(staging)
            raise
        return [*plan.notes, *staging.notes]

    def _of_output(self, do: Callable[..., T], plan: Plan) -> T:
        """Claim a plan's OUT, or only check it."""
        spec = plan.spec
        try:
            return do(
                self._output(spec),
                spec.job,
                spec.overwrite,
                inputs=[file.open for file in plan.files],
                shown=spec.output,
                cluster=self.cluster,
            )
        except MrqError as exc:
            if self.cluster is None:
                raise
            raise _spelled(exc, spec.output) from exc

    def _output(self, spec: JobSpec) -> str:
        return spec.output_open or self.shared.result(spec.job)


def _refuse(draft: Draft) -> None:
    """Raise UsageError for a draft of another version, or with settings that no client of ours would send."""
    if draft.version != mrq.__version__:
        raise UsageError(
            f"this cluster runs mrq {mrq.__version__} and the job was submitted by {draft.version}: "
            f"install mrq-mapreduce=={mrq.__version__} where you submit"
        )
    spec = draft.spec
    parts: tuple[JobSpec | Draft | StageSpec, ...] = (spec, draft, *spec.stages)
    for of in parts:
        found = {each.name: getattr(of, each.name) for each in dataclasses.fields(of)}
        if found.get("reducers") in (0, FOLLOWS):
            del found["reducers"]
        settings.recheck(spec.name, found)


def _spelled(exc: MrqError, output: str | None) -> MrqError:
    """A refusal of OUT that begins with OUT as the user spelled it: paths of the cluster alone say little."""
    text = str(exc)
    return exc if not output or text.startswith(output) else type(exc)(f"{output}: {text}")


def check_packages(
    wanted: Iterable[tuple[str, tuple[str, ...]]], workers: Sequence[Mapping[str, str]]
) -> None:
    """Raise UsageError for modules that some worker lacks: `numpy: on 0 of 10 workers`."""
    if not workers:
        return
    have = [distributions(packages) or frozenset() for packages in workers]
    missing = []
    for each in wanted:
        module, needs = each[0], Needs(packages=(each,))
        count = sum(1 for packages in have if not lacking(needs, packages))
        if count < len(workers):
            missing.append(f"{module}: on {count} of {len(workers)} workers")
    if missing:
        raise UsageError(
            f"the job imports packages that the workers don't all have: {'; '.join(missing)}; install them "
            "there (requirements.txt beside compose.yaml goes into the image)"
        )

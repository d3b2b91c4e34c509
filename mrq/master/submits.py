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
from mrq.core.model import JobSpec, Needs
from mrq.core.needs import distributions, lacking
from mrq.core.paths import check_job_id
from mrq.core.refs import Kind
from mrq.errors import DiskFullError, MrqError, OperatorError, OutputError, UsageError
from mrq.io.plan import Draft, Plan, complete
from mrq.master.known_jobs import KnownJobs
from mrq.master.shared import SharedRoot, unseen
from mrq.master.shares import Shares, nearest
from mrq.master.views import Views
from mrq.ports import Blobs
from mrq.settings import job as settings

#: Cuts the key space of a total order: (samples, R) -> R-1 keys.
Cut = Callable[[Sequence[bytes], int], Sequence[Any]]

T = TypeVar("T")


@dataclass(eq=False, kw_only=True)
class Submits:
    """Takes drafts. Its methods may be called from several threads at once."""

    jobs: KnownJobs
    views: Views
    blobs: Blobs
    shared: SharedRoot
    shares: Shares
    cluster: owner.Cluster | None
    keep_s: float
    cut: Cut
    #: Jobs that are being submitted at this moment.
    _planning: set[str] = field(default_factory=set, init=False)
    #: Of them, those that were cancelled meanwhile.
    _unwanted: set[str] = field(default_factory=set, init=False)
    #: By sampling: the job that it is for, packed; the store, which has it as a blob, may lose it.
    _packed: dict[str, bytes] = field(default_factory=dict, init=False)

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
            planned = replace(plan.spec, output_open=self._output(spec), staging=staging.folder)
            if plan.sample is None:
                self.jobs.take(planned, code)
            else:
                self.jobs.take(self.expect(replace(plan.sample, staging=None), planned), code)
        except BaseException as exc:
            away = isinstance(exc, OperatorError) and not isinstance(exc, DiskFullError)
            if not away:  # else it may have been taken, by an answer that was lost: the claim stays
                claim.abandon(staging)
            raise
        return [*plan.notes, *staging.notes]

    def expect(self, sample: JobSpec, after: JobSpec) -> JobSpec:
        """The sampling, which names the job that it is for. Raises OperatorError."""
        packed = wire.pack([wire.VERSION, wire.to_wire(after)])
        self._packed[sample.job] = packed
        return replace(sample, then=self.blobs.put(packed, keep_s=self.keep_s or None))

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

    def sampled_for(self, sample: JobSpec) -> JobSpec:
        """The job that a sampling is for. Raises OperatorError when it isn't kept any more."""
        packed = self._packed.get(sample.job) or self.blobs.get(sample.then or "")
        if packed is None:
            raise OperatorError(f"what {sample.job} was sampling for isn't kept any more; submit anew")
        version, data = wire.unpack(packed)
        if version != wire.VERSION:
            raise OperatorError(f"{sample.job} was submitted to another version of mrq; submit anew")
        return wire.from_wire(JobSpec, data)

    def is_kept(self, sample: JobSpec) -> bool:
        """Can a sampling be gone on with once the store answers? True where it can't be asked."""
        try:
            return sample.job in self._packed or self.blobs.get(sample.then or "") is not None
        except OperatorError:
            return True

    def remember(self, job: JobSpec) -> None:
        """A job that was taken over: what a sampling is for is kept here too. Raises OperatorError, and
        CorruptFileError where that can't be read."""
        packed = self.blobs.get(job.then) if job.then is not None else None
        if packed is not None:
            self._packed[job.job] = packed

    def put_back(self, sample: str) -> None:
        """The store has lost its data. Raises OperatorError."""
        packed = self._packed.get(sample)
        if packed is not None:
            self.blobs.put(packed, keep_s=self.keep_s)

    def settled(self, sample: str) -> None:
        """A sampling is over, and the job that it was for is taken, or over as well."""
        self._packed.pop(sample, None)

    def go_on(self, sample: JobSpec, samples: Sequence[bytes]) -> None:
        """The samples are there: cut the key space and take the job that they are for. Again is once."""
        spec = self.sampled_for(sample)
        code = self.jobs.code(sample.job) or self.blobs.get(spec.code)
        if code is None:
            raise OperatorError(f"the code of job {spec.job} isn't kept any more; submit again")
        self.jobs.take(replace(spec, boundaries=tuple(self.cut(samples, spec.reducers))), code)


def _refuse(draft: Draft) -> None:
    """Raise UsageError for a draft of another version, or with settings that no client of ours would send."""
    if draft.version != mrq.__version__:
        raise UsageError(
            f"this cluster runs mrq {mrq.__version__} and the job was submitted by {draft.version}: "
            f"install mrq-mapreduce=={mrq.__version__} where you submit"
        )
    spec = draft.spec
    found = {each.name: getattr(of, each.name) for of in (spec, draft) for each in dataclasses.fields(of)}
    settings.recheck(spec.name, {**found, "reducers": None if spec.reducers == 0 else spec.reducers})


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

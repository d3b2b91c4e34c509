"""What the leader has a worker do: one class an order, the same from the machine to the agent.

The machine gives an order (`core.commands.GiveOrder`), the leader's batch carries it to the store, the store
numbers it for its worker and repeats it with every beat's reply until a beat acknowledges the number, and the
agent carries it out; what needs hands (`Kill`, `DropJob`, `DropMaps`, `UploadLog`) it passes on as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from mrq.core.model import TaskMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """End an attempt that is no longer live; how it ended is reported all the same."""

    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Claim this task: a backup, or one that not every worker may run."""

    message: TaskMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class DropJob:
    """Delete a job's intermediate files on this worker, and end what runs of it first."""

    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DropMaps:
    """Delete the map outputs of a job's stages up to this one: nobody reads them any more."""

    job: str
    stage: int  #: the number of its run


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """Take nothing more, finish what runs, then leave."""

    reason: str = ""  #: why it is to go, for its log: an operator's word, a version that doesn't fit …


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Nothing that this draining worker keeps is needed any more: it needn't serve it longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """Write something into this worker's log for whoever runs it, as why it gets no tasks."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadLog:
    """Put an attempt's whole log into the store's blobs; somebody wants to read it."""

    job: str
    log: str  #: the attempt's name: its `core.refs.AttemptRef` as text


Order = Kill | Offer | DropJob | DropMaps | Drain | Release | Notify | UploadLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbered:
    """The envelope in which an order reaches its worker; numbers of one boot only grow."""

    number: int
    order: Order

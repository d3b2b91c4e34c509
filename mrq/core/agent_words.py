"""What the agent hears and says: events past tense, commands imperative."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mrq.core.events import AttemptReported
from mrq.core.events import Ticked as Ticked
from mrq.core.model import Beat, Outcome, Slots, TaskMessage
from mrq.core.orders import DropJob, DropMaps, Kill, UploadLog
from mrq.core.refs import AttemptRef, Kind
from mrq.core.store_api import BeatReply, ClaimAnswer, ClaimRequest, ReportAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Who the worker is, and its bounds. Times in seconds."""

    worker: str
    boot: str
    slots: Slots
    address: str = ""
    hints: Mapping[str, int] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)  #: version, packages …: with the first beat …
    about_again_beats: int = 10  #: … and once in so many: the leader may have missed it
    beat_interval_s: float = 1.0
    no_claims_after_s: float = 10.0  #: no beat answered for so long: nothing is claimed
    pause_after_s: float = 15.0  #: … nothing is reported before a beat's reply has said what is live
    held_beats: float = 1.5  #: HELD is asked again after so many beats
    young_links_s: float = 15.0  #: links younger than this: after a restart everybody's are …
    young_retry_s: float = 5.0  #: … so HELD is asked again only after this
    retry_s: float = 1.0  #: NO_STORE, DECLINED, and calls that failed
    fresh_s_max: float = 1.0  #: delivered and without room for so long: given back
    offered_s_max: float = 15.0  #: offered and without room for so long: its leader has looked again
    ready_s_max: float = 5.0  #: claimed and without a slot, or not begun, for so long: handed back
    short_s: float = 1.0  #: tasks that take less are short: there is a message ahead of each slot …
    ahead: int = 2  #: … so many with the one at hand
    topped_up_max: int = 64  #: kept messages that credit makes up for
    #: A delivery that is this old is acked early, before the broker takes it back (0.75 of its consumer
    #: timeout); what was claimed then lives on its beats. None: never.
    handover_after_s: float | None = None
    serve_s_max: float = 30.0  #: a drain goes on serving map outputs that others may need for so long


# Events.


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The broker handed over a task's message; `delivery` is a number of its own for each delivery."""

    delivery: int
    message: TaskMessage
    redelivered: bool = False
    group: int = 0  #: the same for all tasks of a message that names several; 0: it names this one


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimAnswered:
    """What came of asking the store for a claim; each Claim is followed by this."""

    token: str
    answer: ClaimAnswer | None  #: None: it couldn't be asked, or its answer was lost: it may be recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted:
    """An executor began user code: from here on a death is charged."""

    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptProgressed:
    """What the progress page shows; goes into the next beat."""

    token: str
    fraction: float
    phase: str
    records: int
    bytes: int
    at: str = ""  #: the record at hand, of one that runs alone


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded:
    """Exactly one for each Start, killed ones too."""

    token: str
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportAnswered:
    """What came of telling the store a report; each Report is followed by this."""

    token: str
    answer: ReportAnswer | None  #: None: it couldn't be told, or its answer was lost: it may be recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class BeatAnswered:
    """What came of a beat; each SendBeat is followed by this."""

    seq: int  #: of the beat
    reply: BeatReply | None  #: None: the store was away, not ready, or too slow


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerLost:
    """The connection is gone, and every unsettled delivery with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerBack:
    """A new connection, without consumers yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveRequested:
    """Take nothing more, finish what runs, then leave. `deadline`: from then on as LeaveAtOnce."""

    deadline: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveAtOnce:
    """Kill and hand back everything, then leave; at `deadline` leave at once."""

    deadline: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AboutChanged:
    """What the worker says about itself (disk, debug switch …), whole: the next beat carries it."""

    about: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskChanged:
    """While the disk's quota is used up no maps are taken: their outputs stay, reduces give room back."""

    full: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingChanged:
    """Whether map outputs are kept here that others may need: a drain waits for that, within its bounds."""

    serving: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Nudged:
    """Orders are waiting: beat now rather than when due."""


AgentEvent = (
    Delivered
    | ClaimAnswered
    | AttemptStarted
    | AttemptProgressed
    | AttemptEnded
    | ReportAnswered
    | BeatAnswered
    | BrokerLost
    | BrokerBack
    | LeaveRequested
    | LeaveAtOnce
    | AboutChanged
    | DiskChanged
    | ServingChanged
    | Nudged
    | Ticked
)


# Commands; orders that need hands are among them as they are: `Kill`, after which the attempt's AttemptEnded
# still comes, and which keeps one that hasn't begun from beginning; `DropJob`, after those, `DropMaps` and
# `UploadLog`.
# Consecutive Claims and Reports may go to the store in one call.


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Ask the store; ClaimAnswered follows, by token."""

    request: ClaimRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Run it in an executor: a slot is free, or it is behind others that are short. AttemptEnded follows, by
    `attempt.token`."""

    message: TaskMessage
    attempt: AttemptRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Tell the store; ReportAnswered follows, by token."""

    report: AttemptReported


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    delivery: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBack:
    delivery: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCredit:
    kind: Kind
    credit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendBeat:
    """One at a time: the next is made only once this one was answered or given up."""

    beat: Beat


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """Say goodbye to the store, close the broker, end. The last command."""


AgentCommand = (
    Claim
    | Start
    | Kill
    | Report
    | Ack
    | GiveBack
    | SetCredit
    | SendBeat
    | DropJob
    | DropMaps
    | UploadLog
    | Leave
)

"""What a leadership is made with, and why it may not begin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mrq.core.machine_config import MachineConfig
from mrq.errors import OperatorError
from mrq.master.dials import Dial
from mrq.master.shares import Probe
from mrq.master.submits import Cut
from mrq.ports import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a leadership is made with."""

    owner: str  #: one for each life of a master's process
    shared_root: str
    keep_s: float
    cut: Cut
    config: MachineConfig
    clock: Clock
    say: Callable[[str], None]
    dial: Dial | None  #: None: workers are taken at their word
    probe: Probe | None  #: None: workers are taken to share every disk
    ticked: Callable[[], None]  #: the loop has gone round once more
    acting: Callable[[], bool]  #: may this master write and publish at this moment?
    fenced: Callable[[], None]  #: a later leader is there
    died: Callable[[BaseException], None]
    background: int = 4  #: threads for what touches disks; 0: it is done on the loop's
    cluster_claims: bool = True  #: a claim on OUT is any later leader's too; False: this process's alone
    keeps_failed: bool = True  #: failed jobs stay with the leader for `keep_s`; False: with the store alone


class Overtaken(OperatorError):
    """A later epoch than this one is in the store: the lease was of a store that lost it."""

    def __init__(self, message: str, *, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch

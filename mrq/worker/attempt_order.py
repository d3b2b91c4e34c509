"""What the agent hands an executor: one attempt, with all that it needs and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from mrq.core.model import JobSpec, Split
from mrq.core.refs import AttemptRef, TaskRef


@dataclass(frozen=True, slots=True, kw_only=True)
class MapSource:
    """One map output for a reducer to read, in a local file."""

    map_index: int
    digest: int  #: of the map's index, as the leader accepted it; the file must be of that
    path: str  #: "": an output of 0 bytes, of which there is no file
    #: None: the map's own output, whose region is the reduce's own. Else which region of a fetched file.
    partition: int | None = None
    ticket: int = 0  #: of the map's attempt, for a fetched region; a map's own file says it in its name


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOrder:
    """One attempt of one task."""

    attempt: AttemptRef
    spec: JobSpec  #: without splits: the one that matters is in `split`
    maps: int  #: M
    split: Split | None = None  #: of a map
    sources: tuple[MapSource, ...] = ()  #: of a reduce, in map order
    output_path: str = ""  #: of a map with reducers: where its map-output file goes
    staging: str = ""  #: of a reduce or a map-only map: folder for its staged files
    scratch: str = ""  #: an empty folder of its own for runs; the agent removes it
    log_path: str = ""  #: where stdout, stderr and logging of user code go
    page_path: str = ""  #: the progress page (`worker.progress_page`)
    careful: bool = False  #: hold each record's output until it is through, to name or leave out bad ones
    strict_order: bool = False  #: see `core.model.TaskMessage`
    alone: bool = False  #: nothing else runs on this worker; its progress names the record at hand

    @property
    def task(self) -> TaskRef:
        """What it is an attempt of."""
        return self.attempt.task

"""Where an output is made: a folder beside OUT, on the same file system, so that one rename makes it OUT.

dirname(OUT)/.NAME.mrq/
  job               the owner (see `commit.owner`)
  attempts/…        what attempts write, each in a folder of its own
  stages/…          what lies between the stages of a job (see `commit.between`)
  manifest          the link that decides the commit
  out/              what becomes OUT: the winners' files, _bad/, _SUCCESS
  old               the earlier output, between being displaced and being removed
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from mrq.commit.manifest import SUCCESS
from mrq.core.paths import check_job_id, is_url
from mrq.errors import OutputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """A job's claim on an OUT, and the folder beside it."""

    output: str  #: as spelled
    output_open: str  #: absolute, links resolved
    folder: str  #: absolute: `.NAME.mrq` beside OUT
    job: str
    displaces: str | None = None  #: identity of the earlier output, to be replaced; None: there was none
    notes: list[str] = field(default_factory=list)  #: what the user should be told, one sentence each

    @classmethod
    def beside(cls, output: str, job: str, shown: str | None = None) -> Staging:
        """Where a job's OUT is staged. Raises OutputError for what can't be an OUT anywhere."""
        check_job_id(job)
        if is_url(output):
            raise OutputError(f"{output}: an output must be a path of a file system; URLs can only be read")
        target = os.path.realpath(output)
        parent, name = os.path.split(target)
        if not name or not output:
            raise OutputError(f"{output or 'an empty path'}: not a name for an output directory")
        folder = f"{parent}/.{name}.mrq".replace("//", "/")
        return cls(output=shown or output, output_open=target, folder=folder, job=job)

    @property
    def manifest(self) -> str:
        """Path of the link that decides the commit."""
        return f"{self.folder}/manifest"

    @property
    def staged(self) -> str:
        """Path of what becomes OUT."""
        return f"{self.folder}/out"

    @property
    def old(self) -> str:
        """Path of the earlier output, where two folders can't be swapped in one step."""
        return f"{self.folder}/old"

    @property
    def success(self) -> str:
        """Path of the manifest of what stands at OUT."""
        return f"{self.output_open}/{SUCCESS}"

"""What lies between the stages of a job: the parts that one has written, until the next one has read them.

STAGING/stages/NUMBER/part-NNNNN.records, by the number of the run that wrote them. Attempts write them as
any part, each under its own attempt's name and synced; once a stage is complete, the winners' are moved here,
which is when the next stage can be planned: it reads them under these names. They are removed when that one
is complete, and its own are here.

Any number of masters may do this at one moment, for one stage or for several of one job: a file is moved or
found moved, and only what stages of lower numbers wrote is removed, of which nobody reads anything any more.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from mrq.commit import owner, publish
from mrq.commit.filesystem import LOCAL, FileSystem
from mrq.commit.staging import Staging
from mrq.core.model import StagedFile
from mrq.core.splits import InputFile
from mrq.errors import OutputError

#: Of a staging folder.
STAGES: Final = "stages"


def path_of(staging: str, number: int, part: StagedFile) -> str:
    """Where a part of the run of that number lies, once it is kept."""
    return f"{staging}/{STAGES}/{number}/{part.final}"


def keep(
    staging: Staging, number: int, parts: Sequence[StagedFile], *, shown: str, fs: FileSystem = LOCAL
) -> list[InputFile]:
    """Keep the parts of a run for the stage after it; replayable. Parts of runs before are removed. `shown`
    is what the stage is called where people read of its parts.

    Raises CorruptFileError for a part that is gone, or isn't what was written; OutputError, DiskFullError.
    """
    folder = f"{staging.folder}/{STAGES}"
    into = f"{folder}/{number}"
    with publish.naming(staging):
        held = owner.holder(fs, staging.folder)
        if held is None or held[1].job != staging.job:
            raise OutputError(f"{staging.folder} isn't job {staging.job}'s any more; submit it again")
        with suppress(FileExistsError):
            fs.mkdir(folder)
        publish.move(fs, staging.folder, parts, into)
        fs.fsync_folder(folder)
        fs.fsync_folder(staging.folder)
        _remove_before(fs, folder, number)
    return [
        InputFile(
            path=f"{shown}/{part.final}",
            open=os.path.abspath(path_of(staging.folder, number, part)),
            size=part.bytes,
            mtime_ns=0,
            splittable=True,
            crc32=part.crc32,
        )
        for part in parts
    ]


def _remove_before(fs: FileSystem, folder: str, number: int) -> None:
    """Of the runs before: their readers are complete, or were given up."""
    for name in fs.names(folder) or ():
        if name.isdigit() and int(name) < number:
            fs.remove_tree(f"{folder}/{name}")

"""What one machine sees of an argument, for another to say whether it sees the same data.

A path means something else on every machine: /tmp, `.` and even /data may well be there on both, with other
files. Where nothing says that it is the same disk, both look, and what they saw is compared.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from itertools import islice
from typing import Final

from mrq.io import inputs

#: Files that are looked at, the nearest first. Two trees that begin with so many of the same names, sizes and
#: times are taken for one.
WALK_MAX: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The files of one argument, or the first of them; wire data."""

    files: int
    bytes: int
    newest_ns: int  #: the latest time of writing; 0 without files
    digest: str  #: of path (as spelled), size and time of each, as they are found
    more: bool = False  #: there are files beyond those

    def __str__(self) -> str:
        count = "1 file" if self.files == 1 else f"{self.files:,} files"
        if not self.files:
            return "no file"
        told = f"{'more than ' if self.more else ''}{count}"
        newest = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.newest_ns // 1_000_000_000))
        first = "the first of them " if self.more else ""
        return f"{told} ({first}{self.bytes:,} bytes, written until {newest} UTC)"


def look(spelled: str, path: str, *, hidden: bool = False, walk_max: int = WALK_MAX) -> Seen | None:
    """What is seen of an argument that is opened as `path`; None where there is nothing of that name.

    Directories are listed as far as is walked, and for a pattern all that it may match; `hidden` names count
    where they count for the job. Raises InputError for what is there and can't be read.
    """
    if not inputs.is_there(spelled, path, hidden=hidden):
        return None
    files = inputs.files_of(spelled, path, hidden=hidden)
    digest = hashlib.sha256()
    count = total = newest = 0
    for file in islice(files, walk_max):
        count, total, newest = count + 1, total + file.size, max(newest, file.mtime_ns)
        name = file.path.encode("utf-8", "surrogateescape")
        digest.update(b"%d:%b%d %d " % (len(name), name, file.size, file.mtime_ns))
    more = next(files, None) is not None
    return Seen(files=count, bytes=total, newest_ns=newest, digest=digest.hexdigest()[:32], more=more)

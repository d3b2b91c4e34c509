"""`mrq.main(Sessions)`: a job file that runs itself, `python sessions.py INPUT… -o OUT`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from mrq.job.base import Job
from mrq.job.bundle import refuse_while_importing


def main(cls: type[Job], argv: Sequence[str] | None = None) -> NoReturn:
    """Run the job by the command line's arguments, the same as submit's, and exit with submit's code."""
    refuse_while_importing("mrq.main")
    from mrq.cli.submit import run_class

    raise SystemExit(run_class(cls, sys.argv[1:] if argv is None else list(argv)))

"""Names of what attempts write, made from ids alone, and which are URLs. Pure: touches no disk."""

from __future__ import annotations

import re
from typing import Final

from mrq.core.refs import AttemptRef
from mrq.errors import InternalError

#: How names of the files begin by which a master finds out who shares a disk with it.
PROBE: Final = ".mrq-probe-"

_JOB_ID: Final = re.compile(r"[a-z0-9-]{1,64}")


def is_url(path: str) -> bool:
    """Does fsspec have to open it? `s3://bucket/key` yes, `/data/a`, `C:/x` and `a://` no."""
    scheme, found, rest = path.partition("://")
    return bool(found and rest) and scheme.isascii() and scheme.replace("+", "").replace("-", "").isalnum()


def named(path: str) -> str:
    """What an input is called where people read of it."""
    return "standard input" if path == "-" else path


def check_job_id(job: str) -> str:
    """The id itself, if it can name a folder. Raises InternalError."""
    if not _JOB_ID.fullmatch(job):
        raise InternalError(f"job id {job!r} isn't of the form [a-z0-9-]{{1,64}}")
    return job


def job_folder(root: str, job: str) -> str:
    """Where one job's temporary files lie on this machine."""
    return f"{root}/jobs/{check_job_id(job)}"


def map_output_path(root: str, attempt: AttemptRef) -> str:
    """The map-output file of one attempt."""
    return f"{job_folder(root, attempt.task.job)}/maps/{attempt}"


def scratch_path(root: str, attempt: AttemptRef) -> str:
    """The folder of an attempt's runs and progress page."""
    return f"{job_folder(root, attempt.task.job)}/scratch/{attempt.token}"


def fetched_path(root: str, job: str, token: str) -> str:
    """The file of what a reduce attempt fetched from other workers."""
    return f"{job_folder(root, job)}/fetched/{token}"


def log_path(root: str, attempt: AttemptRef) -> str:
    """Where an attempt's stdout, stderr and logging go."""
    return f"{job_folder(root, attempt.task.job)}/logs/{attempt}.log"


def staged_folder(attempt: AttemptRef) -> str:
    """Where an attempt writes its output, relative to the job's staging folder."""
    return f"attempts/{attempt}"


def probe_path(folder: str, nonce: bytes) -> str:
    """The file that a master makes in a folder, for workers to see."""
    return f"{folder.rstrip('/')}/{PROBE}{nonce.hex()}"

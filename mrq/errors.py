"""Every error that mrq raises, as one tree split by who must act.

`UsageError` is for whoever typed the command (exit code 2), `JobError` for the job's author (exit
code 1), `OperatorError` for whoever runs the machines, `InternalError` for us. A message says what
happened, where, and what to do. Library errors are translated where they enter, with `raise … from`.
"""

from __future__ import annotations


class MrqError(Exception):
    """The root: catch it to catch everything that mrq raises on purpose."""


class UsageError(MrqError):
    """A wrong command, flag, path or parameter; nothing has run."""


class JobDefinitionError(UsageError):
    """The job's class or file can't be run as it is written; found at submit."""


class UsageTypeError(UsageError, TypeError):
    """A class statement or a call of mrq's with a wrong name, or a value that can't be; a TypeError as Python
    has it."""


class UsageValueError(UsageError, ValueError):
    """A call of mrq's with a value of the right type that can't be; a ValueError as Python has it."""


class InputError(UsageError):
    """An input is missing, unreadable, or not what its format promises."""


class NoInputFiles(InputError):
    """The inputs are there and no file is in them: nothing to do, and nothing was done."""


class OutputError(UsageError):
    """OUT exists, can't be written, or belongs to another job."""


class JobError(MrqError):
    """Something that the job's own code or data did, found while it ran."""


class DataError(JobError):
    """A value of a type that can't be carried, a wrong shape, or a damaged file."""


class OperatorError(MrqError):
    """The machine or a service must be looked after: disk, memory, permissions."""


class DiskFullError(OperatorError):
    """A disk ran out; the message names the folder, what was needed and what there was."""


class WorkerFolderError(OperatorError):
    """A folder of a worker's own is gone or can't be written: no fault of the job."""


class StoreRefusedError(OperatorError):
    """The store is there, and refuses this login, or what it asks for: trying again doesn't mend that."""


class PeerUnreachableError(OperatorError):
    """A worker's data plane doesn't answer, or not as one of ours: no fault of the reader."""


class NoAnswerError(OperatorError):
    """No master answers, or the store is away: nothing is known of what was asked about, which may go on."""


class StillRunningError(MrqError, TimeoutError):
    """The job wasn't over within the time that its caller would wait; it goes on."""


class InternalError(MrqError):
    """A bug in mrq. Please report it with the message."""


class IllegalTransition(InternalError):
    """A transition that the table in `core.transitions` doesn't have; nothing was changed."""


class CorruptFileError(DataError):
    """A file of ours fails its magic, version, length or checksum."""


class Interrupted(MrqError):
    """The run was stopped by the user (Ctrl-C, SIGTERM or cancel)."""

"""A job's code as one file: content-addressed, deterministic, and never pickle.

A bundle is a zip of the job file and its local imports under their names below the root: stored, not
compressed, in order of name and with one fixed time, so that equal code has equal bytes on every machine.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mrq.errors import CorruptFileError, DiskFullError, JobDefinitionError
from mrq.job import source
from mrq.job.base import Job

if TYPE_CHECKING:
    from mrq.job.load import LoadedJob

SIZE_MAX: Final = 64 << 20

#: Set while a job file is being imported, and to "1" in executors: `mrq.run` and `mrq.main` look at it.
IMPORTING: Final = "MRQ_EXECUTOR"

_LARGEST_SHOWN: Final = 5
_TIME: Final = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    digest: str  #: sha256 of `data`, hex
    entry: str  #: `module:Class` inside it
    data: bytes


def build(loaded: LoadedJob, ship: Sequence[str] = (), *, size_max: int = SIZE_MAX) -> Bundle:
    """The bundle of a loaded job, with the files and folders of `ship`, absolute.

    Raises JobDefinitionError for a file that can't be read, and above `size_max` bytes, naming the largest.
    """
    import hashlib

    from mrq.job import imports

    found = imports.follow(loaded.file, loaded.module, loaded.root, ship)
    data = pack(found.files, size_max=size_max)
    return Bundle(digest=hashlib.sha256(data).hexdigest(), entry=loaded.entry, data=data)


def pack(files: Mapping[str, str], *, size_max: int = SIZE_MAX) -> bytes:
    """A bundle of `files`: names inside -> paths."""
    import io
    import zipfile

    try:
        sizes = {name: os.stat(path).st_size for name, path in files.items()}
        if sum(sizes.values()) > size_max:
            largest = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:_LARGEST_SHOWN]
            shown = ", ".join(f"{name} ({size / (1 << 20):.1f} MiB)" for name, size in largest)
            raise JobDefinitionError(
                f"the job's code and its local imports are {sum(sizes.values()) / (1 << 20):.1f} MiB, more "
                f"than the {size_max / (1 << 20):.1f} MiB that a bundle may have; move data out of the "
                f"package. The largest: {shown}"
            )
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
            for name in sorted(files):
                entry = zipfile.ZipInfo(name, _TIME)
                entry.create_system = 3  # unix, on every machine
                entry.external_attr = (stat.S_IFREG | 0o644) << 16
                with open(files[name], "rb") as f:
                    archive.writestr(entry, f.read())
    except OSError as exc:
        raise JobDefinitionError(f"can't read {exc.filename}, which the job needs: {exc.strerror}") from exc
    return out.getvalue()


def unpack(data: bytes, folder: str) -> None:
    """Make `folder` hold the bundle's files; does nothing where it exists already.

    All or nothing: written beside it and renamed, so whoever sees the folder sees it whole. Raises
    CorruptFileError for what isn't a bundle or would write outside, DiskFullError, OSError.
    """
    import errno
    import secrets

    if os.path.isdir(folder):
        return
    aside = f"{folder}.{os.getpid()}-{secrets.token_hex(4)}"
    try:
        os.makedirs(aside)
        for name, content in _entries(data):
            path = os.path.join(aside, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as f:
                f.write(content)
        os.rename(aside, folder)
    except OSError as exc:
        shutil.rmtree(aside, ignore_errors=True)
        if exc.errno == errno.ENOSPC:
            raise DiskFullError(
                f"no space to unpack the job's code ({len(data):,} bytes) into {folder}"
            ) from exc
        if not os.path.isdir(folder):  # else somebody else was first, with the same content
            raise
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def import_entry(folder: str, entry: str) -> type[Job]:
    """The job class `module:Class` of an unpacked bundle.

    Raises JobDefinitionError, with the user's own line, for whatever importing it raises.
    """
    module_name, _, qualname = entry.partition(":")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    file = os.path.join(folder, *module_name.split(".")) + ".py"
    with importing(file):
        found: object = importlib.import_module(module_name)
        for part in qualname.split("."):
            found = getattr(found, part)
    if not (isinstance(found, type) and issubclass(found, Job)):
        raise JobDefinitionError(f"{entry} is not a mrq.Job")
    return found


@contextlib.contextmanager
def importing(file: str) -> Iterator[None]:
    """Mark that a job file is being imported, for `refuse_while_importing`. Raises JobDefinitionError, with
    the user's own line, for whatever importing it raises."""
    before = os.environ.get(IMPORTING)
    os.environ[IMPORTING] = before or "importing"
    try:
        yield
    except JobDefinitionError:
        raise
    except (Exception, SystemExit) as exc:
        raise JobDefinitionError(source.describe_import_error(exc, file)) from exc
    finally:
        if before is None:
            del os.environ[IMPORTING]
        else:
            os.environ[IMPORTING] = before


def refuse_while_importing(call: str) -> None:
    """For `mrq.run` and its like: raise where a job file's top level calls them.

    Every executor imports the file, so an unguarded call would start a run in each.
    Raises JobDefinitionError.
    """
    if os.environ.get(IMPORTING) is None:
        return
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "<module>" and source.is_users(code.co_filename):
            if frame.f_globals.get("__name__") == "__main__":
                return  # a program of its own, which user code has started
            where = source.place(code.co_filename, frame.f_lineno)
            line = source.line_text(code.co_filename, frame.f_lineno)
            raise JobDefinitionError(
                f"{where}: `{line}` runs whenever the file is imported, and executors import it; "
                f'put it under `if __name__ == "__main__":`'
            )
        if frame.f_back is None:
            break
        frame = frame.f_back
    if os.environ[IMPORTING] == "1":  # else another thread is loading a job file, which is none of ours
        raise JobDefinitionError(f"{call} can't be called from code that runs in an executor")


def _entries(data: bytes) -> Iterator[tuple[str, bytes]]:
    """(name, content) of a bundle's files, checked. Raises CorruptFileError."""
    import io
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                name = entry.filename
                kind = stat.S_IFMT(entry.external_attr >> 16)
                odd = "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in name.split("/"))
                if kind not in (0, stat.S_IFREG) or odd:
                    raise CorruptFileError(
                        f"the job's code bundle has an entry that can't be unpacked: {name!r}"
                    )
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise CorruptFileError(f"the job's code bundle has a compressed entry: {name!r}")
                yield name, archive.read(entry)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as exc:
        raise CorruptFileError(f"the job's code bundle is damaged: {exc}") from exc

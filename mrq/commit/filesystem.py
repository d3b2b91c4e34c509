"""The system calls of the commit, one a method, so that a test can stop the world between any two."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Final

from mrq.io import disk

#: What rename(2) and rmdir(2) say of a folder that is there and not empty.
OCCUPIED: Final = (errno.ENOTEMPTY, errno.EEXIST)
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_UNSUPPORTED: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


class FileSystem:
    """A local or shared file system. Every method raises OSError."""

    def mkdir(self, path: str) -> None:
        os.mkdir(path)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def link(self, source: str, target: str) -> None:
        os.link(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def rmdir_empty(self, path: str) -> bool:
        """Remove a folder if it is empty; True once it isn't there."""
        try:
            self.rmdir(path)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError as exc:
            if exc.errno not in OCCUPIED:
                raise
            return False
        return True

    def write(self, path: str, data: bytes) -> None:
        """A file of its own with these bytes, on the disk; replaces a half-written one of that name."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            disk.write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)

    def fsync_folder(self, path: str) -> None:
        disk.fsync_folder(path)

    def exchange(self, one: str, other: str) -> bool:
        """Swap two paths in one step; False where the system can't."""
        import ctypes

        renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        if renameat2 is None:
            return False
        at, paths = ctypes.c_int(_AT_FDCWD), [ctypes.c_char_p(os.fsencode(path)) for path in (one, other)]
        if renameat2(at, paths[0], at, paths[1], ctypes.c_uint(_RENAME_EXCHANGE)) == 0:
            return True
        code = ctypes.get_errno()
        if code in _UNSUPPORTED:
            return False
        raise OSError(code, os.strerror(code), one)

    def read(self, path: str) -> bytes | None:
        """A small file's bytes, None when there is none."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        with os.fdopen(fd, "rb") as file:
            return file.read()

    def size(self, path: str) -> int | None:
        """Bytes of a file, None when there is none."""
        try:
            return os.stat(path).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def names(self, path: str) -> list[str] | None:
        """A folder's names in order, None when there is no such folder."""
        try:
            return sorted(os.listdir(path))
        except FileNotFoundError:
            return None

    def remove_tree(self, path: str) -> None:
        """Remove a file or folder with all below it; nothing there is fine."""
        try:
            self.unlink(path)
        except FileNotFoundError:
            return
        except OSError as exc:
            is_folder = os.path.isdir(path) and not os.path.islink(path)
            if exc.errno not in (errno.EISDIR, errno.EPERM) or not is_folder:
                raise
        else:
            return
        for name in self.names(path) or ():
            self.remove_tree(f"{path}/{name}")
        with suppress(FileNotFoundError):
            self.rmdir(path)


#: The one that is used where a test doesn't bring its own.
LOCAL: Final = FileSystem()

"""Fetches the result of a job without OUT from the cluster's shared root into a folder of this client's."""

from __future__ import annotations

import os
import shutil

from mrq.codec.checksum import crc32
from mrq.commit.manifest import parse_manifest
from mrq.errors import OperatorError
from mrq.io import disk
from mrq.remote.ask import Asker

#: The index that stands for `_SUCCESS`, the manifest that names the parts.
MANIFEST = -1


def fetch(asker: Asker, job: str, folder: str) -> None:
    """Make `folder` a copy of the job's output. Raises OperatorError, DiskFullError."""
    aside = f"{folder}.new"
    shutil.rmtree(aside, ignore_errors=True)
    with disk.naming(aside):
        os.makedirs(aside, mode=0o700)
    try:
        _copy(asker, job, MANIFEST, f"{aside}/_SUCCESS")
        with open(f"{aside}/_SUCCESS", "rb") as file:
            manifest = parse_manifest(file.read())
        for index, part in enumerate(manifest.parts):
            size, crc = _copy(asker, job, index, f"{aside}/{part.final}")
            if size == part.bytes and crc != part.crc32:
                raise OperatorError(
                    f"{part.final} of job {job} came with other bytes than its job wrote, by the checksum in "
                    "its manifest; it lies damaged on the cluster"
                )
            if size != part.bytes:
                raise OperatorError(
                    f"{part.final} of job {job} came with {size:,} bytes where its manifest says "
                    f"{part.bytes:,}; it lies damaged on the cluster"
                )
        with disk.naming(folder):
            os.rename(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _copy(asker: Asker, job: str, part: int, path: str) -> tuple[int, int]:
    """One file, chunk by chunk; (bytes, crc32)."""
    at = crc = 0
    with disk.naming(path):
        file = open(path, "wb")  # noqa: SIM115 the writes are named one by one
    with file:
        while True:
            answer = asker.ask("read", job=job, part=part, offset=at)
            data = answer["data"]
            with disk.naming(path, len(data)):
                file.write(data)
            at += len(data)
            crc = crc32(data, crc)
            if at >= answer["size"]:
                return at, crc
            if not data:
                raise OperatorError(f"part {part} of job {job} ends at byte {at:,} of {answer['size']:,}")

"""Attempts' own folders and logs: made, used again by the next attempt of the job, removed.

Making and removing files costs a short task more than anything else here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import replace
from typing import Final

from mrq.worker import attempt_logs, progress_page
from mrq.worker.attempt_order import AttemptOrder

#: The progress page's name in a scratch folder.
_PAGE: Final = "page"


class Scratches:
    """Scratch folders with nothing but a page, each with an empty log, or "", and the page, by job. One
    thread owns it."""

    def __init__(self) -> None:
        self._free: dict[str, list[tuple[str, str, memoryview[int]]]] = {}

    def make(self, order: AttemptOrder) -> tuple[AttemptOrder, memoryview[int]]:
        """The order with a scratch folder that is empty but for a blank page; the job's own folders are
        there. Raises OSError."""
        free = self._free.get(order.spec.job)
        while free:
            scratch, log, view = free.pop()
            page_path = f"{scratch}/{_PAGE}"
            with contextlib.suppress(OSError):  # somebody has removed it
                os.stat(page_path)
                if log:
                    os.rename(log, order.log_path)
                view[:] = progress_page.BLANK
                return replace(order, scratch=scratch, page_path=page_path), view
        try:
            os.mkdir(order.scratch, 0o700)
        except FileExistsError:  # of a life before this one, with the same token
            shutil.rmtree(order.scratch, ignore_errors=True)
            os.mkdir(order.scratch, 0o700)
        page_path = f"{order.scratch}/{_PAGE}"
        progress_page.create(page_path)
        return replace(order, page_path=page_path), progress_page.open_page(page_path)

    def give_back(
        self, order: AttemptOrder, view: memoryview[int], *, keep_log: bool, empty_log: bool
    ) -> None:
        """Of an attempt that has ended, and whose executor lives, so nothing writes there any more."""
        if not _only_page(order.scratch):
            clean(order, keep_log=keep_log)
            return
        reused = empty_log and not keep_log
        free = self._free.setdefault(order.spec.job, [])
        free.append((order.scratch, order.log_path if reused else "", view))
        if not keep_log and not reused:
            attempt_logs.remove(order.log_path)

    def forget(self, job: str) -> None:
        """Of a job that is over: its folder is being deleted."""
        for _, log, _ in self._free.pop(job, ()):
            attempt_logs.remove(log)

    def close(self) -> None:
        """Remove what is kept."""
        for folder, log, _ in (each for free in self._free.values() for each in free):
            shutil.rmtree(folder, ignore_errors=True)
            attempt_logs.remove(log)
        self._free.clear()


def clean(order: AttemptOrder, *, keep_log: bool) -> None:
    """Remove an attempt's folder, and its log."""
    try:  # mostly there is nothing else in it
        os.unlink(order.page_path)
        os.rmdir(order.scratch)
    except OSError:
        shutil.rmtree(order.scratch, ignore_errors=True)
    if not keep_log:
        attempt_logs.remove(order.log_path)


def remove_output(order: AttemptOrder) -> None:
    """What an attempt wrote that will never be anyone's: it wasn't reported as done."""
    if order.staging:
        shutil.rmtree(order.staging, ignore_errors=True)
    for path in (order.output_path, f"{order.output_path}.partial"):
        if order.output_path:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _only_page(scratch: str) -> bool:
    """Whether an attempt left nothing of its own in its scratch folder."""
    try:
        return os.listdir(scratch) == [_PAGE]
    except OSError:
        return False

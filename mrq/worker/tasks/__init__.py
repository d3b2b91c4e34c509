"""What an executor does with an order: maps, reduces, samples."""

from mrq.worker.tasks.runner import run_attempt

__all__ = ["run_attempt"]

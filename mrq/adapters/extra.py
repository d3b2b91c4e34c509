"""What `pip install 'mrq-mapreduce[cluster]'` brings: who lacks it is told so."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from mrq.errors import UsageError

#: Distributions of the extra, by the modules that they bring.
_EXTRA: Final = {
    "pika": "pika",
    "redis": "redis",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "google": "protobuf",
}


@contextlib.contextmanager
def needing_extra() -> Iterator[None]:
    """Turns a missing package of the extra into the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as exc:
        package = _EXTRA.get((exc.name or "").partition(".")[0])
        if package is None:
            raise
        raise UsageError(
            f"a cluster needs {package}, which isn't installed; install all it needs: "
            "pip install 'mrq-mapreduce[cluster]'"
        ) from exc

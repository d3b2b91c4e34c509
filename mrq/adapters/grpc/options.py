"""How channels and servers of this package are set up, and the names on the wire."""

from __future__ import annotations

import os
from typing import Final

# Before grpc is imported anywhere: its core doesn't support fork, and its handlers for it have deadlocked.
# Everything here starts processes by exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

SERVICE: Final = "mrq.v1.Files"
SIZES: Final = f"/{SERVICE}/Sizes"
FETCH: Final = f"/{SERVICE}/Fetch"
DIAL: Final = f"/{SERVICE}/Dial"
SEES: Final = f"/{SERVICE}/Sees"

#: Of a stream's messages, bytes.
CHUNK: Final = 1 << 20
#: A Sizes call names at most this many outputs: about 100 KiB, where a message may have 4 MiB.
OUTPUTS_MAX: Final = 2000

_KEEPALIVE: Final = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Without it a peer that hangs is noticed after a minute, whatever the two above say.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
)

CHANNEL: Final = (
    *_KEEPALIVE,
    ("grpc.enable_retries", 0),  # ours resume where they broke off
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.enable_http_proxy", 0),
    # Each with connections of its own, so that two gathers don't wait for each other's window.
    ("grpc.use_local_subchannel_pool", 1),
    # A chunk and the 5 bytes before it in one HTTP/2 frame, not in 65 of 16 KiB.
    ("grpc.http2.max_frame_size", CHUNK + 5),
)

SERVER: Final = (
    *_KEEPALIVE,
    # Clients ping every 30 s; the default would close their connections for it.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A second server on a port is an error, not a share of the calls.
    ("grpc.so_reuseport", 0),
)

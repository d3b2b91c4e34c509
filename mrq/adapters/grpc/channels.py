"""How channels and servers of this package are set up, and the names on the wire."""

from __future__ import annotations

from typing import Final

SERVICE: Final = "mrq.v1.Files"
SIZES: Final = f"/{SERVICE}/Sizes"
FETCH: Final = f"/{SERVICE}/Fetch"
DIAL: Final = f"/{SERVICE}/Dial"
SEES: Final = f"/{SERVICE}/Sees"

#: Of a stream's messages, bytes.
CHUNK: Final = 1 << 20
#: A Sizes call names at most this many outputs: about 100 KiB.
OUTPUTS_MAX: Final = 2000
#: Of a request, bytes: so many outputs with tokens as long as they may be.
REQUEST_MAX: Final = 512 << 10
#: Calls at once on one connection.
_STREAMS_MAX: Final = 64

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
    # Each with connections of its own, so that two fetches don't wait for each other's window.
    ("grpc.use_local_subchannel_pool", 1),
    # A chunk and the 5 bytes before it in one HTTP/2 frame, not in 65 of 16 KiB.
    ("grpc.http2.max_frame_size", CHUNK + 5),
)

SERVER: Final = (
    *_KEEPALIVE,
    # Clients ping every 30 s; the default would close their connections for it.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # What one connection may hold: a request in memory for each of so many calls, and nothing while it says
    # nothing.
    ("grpc.max_receive_message_length", REQUEST_MAX),
    ("grpc.max_concurrent_streams", _STREAMS_MAX),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 600_000),
    # A second server on a port is an error, not a share of the calls.
    ("grpc.so_reuseport", 0),
)

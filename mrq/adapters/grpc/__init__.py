"""gRPC between workers' data planes, and from the leader to them: ids in, raw chunks out."""

from __future__ import annotations

from mrq.adapters.grpc.client import GrpcPeers, dial_back
from mrq.adapters.grpc.server import FileServer

__all__ = ["FileServer", "GrpcPeers", "dial_back"]

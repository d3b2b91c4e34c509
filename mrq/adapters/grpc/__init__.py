"""gRPC between workers' data planes, and from the leader to them: ids in, raw chunks out."""

import os

# Before grpc is imported anywhere: its core doesn't support fork, and its handlers for it have deadlocked.
# Everything here starts processes by exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

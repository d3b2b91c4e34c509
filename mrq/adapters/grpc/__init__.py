"""gRPC between workers' data planes, and from the leader to them: ids in, raw chunks out."""

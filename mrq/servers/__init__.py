"""What stands behind the ports: the servers of a cluster, and their twins in memory."""

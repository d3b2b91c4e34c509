"""What a program holds: an engine, handles of jobs, results; and who leads it, here or on a cluster."""

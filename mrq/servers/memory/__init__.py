"""Servers in this process's memory, and the logs that let their jobs outlive it."""

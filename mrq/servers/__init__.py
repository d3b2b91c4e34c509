"""Servers that are held in this process. Those of a cluster are reached through `mrq.adapters`."""

"""The servers of a process of its own, in its memory. A cluster's servers are reached by `mrq.adapters`."""

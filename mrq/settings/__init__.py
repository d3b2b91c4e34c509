"""Every setting once: what it is called, takes, defaults to, is for, and where it may be set.

A setting is a `table.Setting`. Those of a job are the fields of `job.JobSettings`, those of a cluster the
fields of `cluster.Profile`, those of a command line are in `run`, and the variables beside them in
`variables`. Flags, checks, docs and completion are made of them.
"""

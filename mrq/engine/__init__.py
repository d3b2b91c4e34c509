"""The engine that a program holds, and who leads it: a leadership in this process, or a cluster's.

engine   what is asked of an engine, whoever leads it
local    a leader in this process: the only module that brings master and worker together
remote   a cluster's leader, reached over the store

Handles of jobs are in `mrq.handle`, results in `mrq.result`.
"""

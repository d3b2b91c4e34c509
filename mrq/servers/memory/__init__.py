"""Servers in this process's memory, and what lets their jobs outlive it.

store       jobs, attempts and workers: `core.claims` under one lock
queues      messages, and whoever takes them
servers     its blobs, and what it tells a leader of
kept        the store of an engine, each of whose jobs has a folder and a log
jobfolder   a job's folder: its lock, spec and code; what dead processes have left
log         a job's log: every batch that its leader has written
recovery    `mrq retry`: what of a job is still good, and how it goes on
private     folders of engines that are gone
"""

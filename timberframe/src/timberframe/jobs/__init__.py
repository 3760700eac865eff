"""Durable background work: enqueued in the transaction of its reason, and done once."""

from timberframe.jobs.declaration import Job, Run, job

__all__ = ["Job", "Run", "job"]

"""Schedules for GPUs: a kernel of the graph becomes one or more launches over a grid of threads."""

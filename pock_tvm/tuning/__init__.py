"""Measure what the schedules of a core may decide, and record what beats their rules."""

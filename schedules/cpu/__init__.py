"""Schedules of CPU kernels, one family a file; ``generic`` accepts what is left."""

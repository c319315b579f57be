"""Peers in processes and environments of their own; each file runs by its path, without ours."""

"""Schedules for the vectors of Hexagon (HVX)."""

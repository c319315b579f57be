"""Read samples from what users have: one module per kind of source."""

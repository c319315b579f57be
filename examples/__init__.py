"""Programs to read and run; each is started from the root of the repository."""

"""A program for a Cortex-M7 board; see docs/bare-metal.md."""

"""A compiler for sparse fine-tuning on the device."""

__version__ = "0.1.0"

"""Relax operators of our own, and our lowering of some that Relax has."""

from pock_tvm.relay_passes.operators import conv2d

__all__ = ["conv2d"]

"""Assemble CUDA source for one architecture, by NVIDIA's run-time compiler; no GPU is needed.

The version matters: 12.x is the last that knows the architectures of Jetson Nano and Xavier.
"""

import ctypes
import ctypes.util
import functools
import importlib.util
from pathlib import Path
from typing import Any

from pock_tvm.errors import BuildError

_MISSING = "NVRTC 12 is missing, which assembles CUDA kernels; install 'pock-tvm[cuda]'"


def assemble(source: str, architecture: str) -> bytes:
    """Return the cubin of ``source`` for an architecture such as ``sm_87``.

    Raises:
        BuildError: NVRTC is missing, or does not take the source.
    """
    nvrtc = _library()
    program = ctypes.c_void_p()
    code = nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None
    )
    if code:
        raise BuildError(f"NVRTC cannot take the kernels: error {code}")
    try:
        words = [f"--gpu-architecture={architecture}".encode()]
        options = (ctypes.c_char_p * len(words))(*words)
        if nvrtc.nvrtcCompileProgram(program, len(words), options):
            log = _text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
            lines = [line for line in log.decode(errors="replace").splitlines() if line.strip()]
            wrong = next((line for line in lines if "error" in line), "no reason given")
            raise BuildError(f"cannot assemble the kernels for {architecture}: {wrong}")
        return _text(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _text(size_of: Any, get: Any, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    code = size_of(program, ctypes.byref(size))
    content = ctypes.create_string_buffer(size.value)
    if code or get(program, content):
        raise BuildError("NVRTC assembled the kernels and does not hand them out")
    return content.raw


@functools.cache
def _library() -> ctypes.CDLL:
    """Open the library of the PyPI package, or that of the system."""
    found = None
    if importlib.util.find_spec("nvidia") is not None:
        found = importlib.util.find_spec("nvidia.cuda_nvrtc")
    folders = [Path(place) for place in (found.submodule_search_locations or ())] if found else []
    names = [str(p) for folder in folders for p in sorted(folder.glob("lib/libnvrtc.so.12*"))]
    for name in (*names, ctypes.util.find_library("nvrtc")):
        if name is not None:
            try:
                return ctypes.CDLL(name)
            except OSError:
                continue
    raise BuildError(_MISSING)

"""Train an artifact from Python without pock_tvm: nothing but ctypes.

python train.py net
"""

import ctypes
import sys
from pathlib import Path

ABI, ALIGNMENT, THREADS, STEPS = 2, 64, 2, 5
FLOAT32, INT32, INPUT, LABEL = 2, 4, 4, 5


class Setup(ctypes.Structure):
    """``pock_setup`` of pock.h."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("abi", "threads", "affinity", "trust_weights")),
        ("session_bytes", ctypes.c_size_t),
        ("frozen", ctypes.c_void_p),
        ("frozen_bytes", ctypes.c_size_t),
        ("state", ctypes.c_void_p),
        ("state_bytes", ctypes.c_size_t),
        ("arena", ctypes.c_void_p),
        ("arena_bytes", ctypes.c_size_t),
        ("log", ctypes.c_void_p),
        ("log_context", ctypes.c_void_p),
    )


class About(ctypes.Structure):
    """``pock_tensor_about`` of pock.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("bytes", ctypes.c_size_t),
        *((name, ctypes.c_int32) for name in ("dtype", "role", "writable")),
    )


def aligned(nbytes: int) -> tuple[ctypes.Array, int]:
    """Return memory, which must be kept, and an aligned address inside it."""
    memory = (ctypes.c_char * (nbytes + ALIGNMENT))()
    return memory, -(-ctypes.addressof(memory) // ALIGNMENT) * ALIGNMENT


def load(path: Path) -> ctypes.CDLL:
    """Load the library and declare what is called here."""
    library = ctypes.CDLL(str(path.resolve()))
    for name in ("session", "state", "arena"):
        getattr(library, f"pock_{name}_bytes").restype = ctypes.c_size_t
    library.pock_last_error.restype = ctypes.c_char_p
    library.pock_last_error.argtypes = [ctypes.c_void_p]
    library.pock_open.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    library.pock_train_step.argtypes = [ctypes.c_void_p, ctypes.c_float, ctypes.c_void_p]
    library.pock_describe_tensor.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
    library.pock_write_tensor.argtypes = [
        *(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
    ]
    library.pock_shutdown.argtypes = [ctypes.c_void_p]
    return library


def main(folder: Path) -> None:
    """Train five steps on made-up samples."""
    library = load(folder / "libpock_model.so")
    sizes = {
        "session_bytes": library.pock_session_bytes(),
        "state_bytes": library.pock_state_bytes(),
        "arena_bytes": library.pock_arena_bytes(THREADS),
    }
    memory = [aligned(nbytes) for nbytes in sizes.values()]
    session, state, arena = (address for _, address in memory)
    setup = Setup(abi=ABI, threads=THREADS, state=state, arena=arena, **sizes)

    def check(code: int) -> None:
        if code:
            sys.exit(f"train: {library.pock_last_error(session).decode()}")

    def fill() -> None:
        """Write made-up samples: a program of your own copies pictures and labels here."""
        about = About()
        for number in range(library.pock_tensor_count()):
            check(library.pock_describe_tensor(session, number, ctypes.byref(about)))
            if about.role not in (INPUT, LABEL) or about.dtype not in (FLOAT32, INT32):
                continue
            count = about.bytes // 4
            if about.dtype == FLOAT32:
                values = (ctypes.c_float * count)(*(k % 5 - 2 for k in range(count)))
            else:
                values = (ctypes.c_int32 * count)(*(k % 3 for k in range(count)))
            check(library.pock_write_tensor(session, about.name, values, about.bytes))

    weights = str(folder / "weights.safetensors").encode()
    check(library.pock_open(session, weights, ctypes.byref(setup)))
    loss = ctypes.c_float()
    for _ in range(STEPS):
        fill()
        check(library.pock_train_step(session, 0.01, ctypes.byref(loss)))
        print(f"{loss.value:.9g}")
    library.pock_shutdown(session)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

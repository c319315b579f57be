"""A session of the C runtime, by ctypes: memory, calls, and error codes as exceptions."""

import ctypes
import mmap
import os
import tempfile
from pathlib import Path

import numpy as np

from pock_tvm.artifact.description import TensorSpec
from pock_tvm.artifact.load import Artifact
from pock_tvm.errors import ArtifactError, BatchError, DivergedError, PockError

_ERRORS: dict[int, type[PockError]] = {
    2: BatchError,
    4: DivergedError,
    5: ArtifactError,
    8: ArtifactError,  # compiled for another processor
}
"""By the codes of pock.h; the others have no class of their own."""

_ABI = 2
"""``POCK_ABI`` of the pock.h that the structures below follow."""

_NUMPY_NAMES = {"bfloat16": "uint16"}
"""numpy has no bfloat16: the bits are handed out."""


class Progress(ctypes.Structure):
    """``pock_progress`` of pock.h: where a training run stands."""

    _fields_ = (
        ("step", ctypes.c_uint64),
        ("cursor", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
    )


class Setup(ctypes.Structure):
    """``pock_setup`` of pock.h: what a session is started with."""

    _fields_ = (
        ("abi", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("affinity", ctypes.c_int32),
        ("trust_weights", ctypes.c_int32),
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


class Session:
    """One model in memory: its own state and arena, the weights file mapped read-only."""

    def __init__(self, artifact: Artifact, threads: int) -> None:
        self._library = _load_library(artifact.runnable_library())
        built_for = self._library.pock_artifact_id().decode()
        if built_for != artifact.artifact_id:
            raise ArtifactError(
                f"{artifact.library} was linked for another artifact than its manifest; "
                "compile the artifact again"
            )
        self._open = False
        self._views: dict[str, np.ndarray] = {}
        self._memory = [
            _page_aligned(size)
            for size in (
                self._library.pock_session_bytes(),
                self._library.pock_state_bytes(),
                self._library.pock_arena_bytes(threads),
            )
        ]
        self._session, state, arena = (memory.ctypes.data for memory in self._memory)
        setup = Setup(
            abi=_ABI,
            threads=threads,
            trust_weights=1,  # load_artifact has compared their SHA-256 already
            session_bytes=self._memory[0].nbytes,
            state=state,
            state_bytes=self._memory[1].nbytes,
            arena=arena,
            arena_bytes=self._memory[2].nbytes,
        )
        weights = os.fsencode(artifact.weights)
        self._check(self._library.pock_open(self._session, weights, ctypes.byref(setup)))
        self._open = True

    @property
    def progress(self) -> Progress:
        """Steps done, samples drawn, the seed of their order; assign to change it."""
        progress = Progress()
        self._library.pock_get_progress(self._live(), ctypes.byref(progress))
        return progress

    @progress.setter
    def progress(self, progress: Progress) -> None:
        self._library.pock_set_progress(self._live(), ctypes.byref(progress))

    def train_step(self, learning_rate: float) -> float:
        """Run one step on what the input tensors hold; return the loss."""
        loss = ctypes.c_float()
        self._check(self._library.pock_train_step(self._live(), learning_rate, ctypes.byref(loss)))
        return loss.value

    def accumulate(self) -> float:
        """Add up the gradient of one micro-batch; return its loss."""
        loss = ctypes.c_float()
        self._check(self._library.pock_accumulate(self._live(), ctypes.byref(loss)))
        return loss.value

    @property
    def waiting(self) -> int:
        """Micro-batches that wait for the next step."""
        return int(self._library.pock_waiting(self._live()))

    def evaluate(self) -> tuple[float, int]:
        """Return the loss of the batch and the count of right predictions, -1 where unknown."""
        loss, correct = ctypes.c_float(), ctypes.c_int32()
        self._check(
            self._library.pock_evaluate(self._live(), ctypes.byref(loss), ctypes.byref(correct))
        )
        return loss.value, correct.value

    def predict(self) -> None:
        """Fill the outputs from the inputs."""
        self._check(self._library.pock_predict(self._live()))

    def set_threads(self, threads: int) -> None:
        """Use at most as many threads as the session was opened with."""
        self._check(self._library.pock_set_threads(self._live(), threads))

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write the state; the file that stood there stays whole until the new one is."""
        self._check(self._library.pock_checkpoint_save(self._live(), os.fsencode(path)))

    def load_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Check a checkpoint, then take over its state and progress."""
        self._check(self._library.pock_checkpoint_load(self._live(), os.fsencode(path)))

    def view(self, tensor: TensorSpec) -> np.ndarray:
        """Return a tensor's memory as stored; not to be kept beyond :meth:`close`."""
        session = self._live()
        if tensor.name not in self._views:
            nbytes = ctypes.c_size_t()
            name = tensor.name.encode()
            address = self._library.pock_tensor(session, name, ctypes.byref(nbytes))
            assert nbytes.value == tensor.nbytes, tensor.name
            memory = (ctypes.c_uint8 * tensor.nbytes).from_address(address or 0)
            dtype = np.dtype(_NUMPY_NAMES.get(tensor.dtype, tensor.dtype))
            view = np.ctypeslib.as_array(memory).view(dtype).reshape(tensor.shape)
            view.flags.writeable = tensor.region != "frozen"
            self._views[tensor.name] = view
        return self._views[tensor.name]

    def close(self) -> None:
        """Join the threads and give the memory back; a second call does nothing."""
        if self._open:
            self._open = False
            self._views.clear()
            self._library.pock_shutdown(self._session)
            self._memory.clear()

    def _live(self) -> int:
        if not self._open:
            raise PockError("the trainer is closed; make a new one")
        return self._session

    def _check(self, code: int) -> None:
        if code:
            message = self._library.pock_last_error(self._session).decode(errors="replace")
            raise _ERRORS.get(code, PockError)(message)


def usable_cores() -> int:
    """Count the cores that this process may run on, up to what the runtime takes."""
    affinity = getattr(os, "sched_getaffinity", None)  # macOS has none
    return min(64, len(affinity(0)) if affinity else os.cpu_count() or 1)


def _page_aligned(nbytes: int) -> np.ndarray:
    """Return zeroed memory that takes no room until it is touched."""
    return np.frombuffer(mmap.mmap(-1, max(nbytes, mmap.PAGESIZE)), np.uint8)


def _load_library(path: Path) -> ctypes.CDLL:
    # dlopen knows a library by its path, and would hand out the one that stood there before;
    # under a name of its own it looks at the file.
    try:
        with tempfile.TemporaryDirectory() as folder:
            alias = Path(folder) / path.name
            alias.symlink_to(path)
            library = ctypes.CDLL(str(alias))
    except OSError as error:
        raise ArtifactError(f"cannot load {path}: {error}") from None
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    signatures: dict[str, tuple[object, list[object]]] = {
        "pock_artifact_id": (text, []),
        "pock_session_bytes": (ctypes.c_size_t, []),
        "pock_state_bytes": (ctypes.c_size_t, []),
        "pock_arena_bytes": (ctypes.c_size_t, [number]),
        "pock_open": (number, [pointer, text, pointer]),
        "pock_shutdown": (None, [pointer]),
        "pock_set_threads": (number, [pointer, number]),
        "pock_train_step": (number, [pointer, ctypes.c_float, pointer]),
        "pock_accumulate": (number, [pointer, pointer]),
        "pock_waiting": (number, [pointer]),
        "pock_evaluate": (number, [pointer, pointer, pointer]),
        "pock_predict": (number, [pointer]),
        "pock_tensor": (pointer, [pointer, text, pointer]),
        "pock_get_progress": (None, [pointer, pointer]),
        "pock_set_progress": (None, [pointer, pointer]),
        "pock_checkpoint_save": (number, [pointer, text]),
        "pock_checkpoint_load": (number, [pointer, text]),
        "pock_last_error": (text, [pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library

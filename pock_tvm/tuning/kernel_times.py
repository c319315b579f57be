"""How long each kernel of a step takes on devices, several at once."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Lock

from pock_tvm.compilation.kernel_sources import KernelSource
from pock_tvm.errors import TuningError
from pock_tvm.schedules.cpu.decision import Decision
from pock_tvm.targets import TargetSpec
from pock_tvm.tuning.device import DEVICE_ERRORS, Device, last_line
from pock_tvm.tuning.kernel_library import kernel_library

_RUNS = 5


def time_kernels(
    sources: Mapping[str, KernelSource],
    decisions: Mapping[str, Decision],
    spec: TargetSpec,
    devices: Sequence[Device],
    tell: Callable[[str, float, str], None],
    *,
    runs: int = _RUNS,
) -> None:
    """Measure kernels, each on whichever device is free.

    Args:
        sources: by name.
        decisions: on record, by name.
        spec: what they are compiled for.
        devices: machines of that kind.
        tell: called with the name, the median µs of a call and the device, in no certain order.
        runs: calls to take the median of.

    Raises:
        TuningError: a device was lost.
    """
    free: SimpleQueue[Device] = SimpleQueue()
    for device in devices:
        free.put(device)
    building, telling = Lock(), Lock()

    def one(name: str) -> None:
        device = free.get()
        try:
            with building:
                library = kernel_library(name, sources[name], spec, decisions.get(name))
            module = device.load(library)
            tensors = device.tensors(sources[name].func)
            seconds = device.seconds(module, tensors, runs=runs, cold=False)
            with telling:
                tell(name, seconds * 1e6, device.name)
        except DEVICE_ERRORS as error:
            text = last_line(error)
            raise TuningError(f"kernel {name} failed on {device.name}: {text}") from error
        finally:
            free.put(device)

    with ThreadPoolExecutor(len(devices)) as pool:
        futures = [pool.submit(one, name) for name in sources]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise

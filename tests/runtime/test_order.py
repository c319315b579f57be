"""``pock_order.c`` against ``pock_tvm.sampling``, and both against the generator's own words."""

import ctypes
import subprocess
import sys

import numpy as np
import pytest

from pock_tvm.artifact.link import RUNTIME
from pock_tvm.sampling import samples_at

WORDS = ctypes.c_uint64 * 4
KEY = ctypes.c_uint64 * 2


class Order(ctypes.Structure):
    _fields_ = (
        ("draws", ctypes.c_void_p),
        ("count", ctypes.c_uint64),
        ("seed", ctypes.c_uint64),
        ("epoch", ctypes.c_uint64),
        ("ready", ctypes.c_int),
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("order") / "order.so"
    command = [sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-O1", "-std=c11"]
    command += ["-fsanitize=undefined", "-fno-sanitize-recover=all"]
    command += [str(RUNTIME / "pock_order.c"), "-o", str(path)]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(path))
    loaded.pock_order_bytes.restype = ctypes.c_size_t
    loaded.pock_order_at.restype = ctypes.c_uint64
    loaded.pock_order_at.argtypes = [ctypes.POINTER(Order), ctypes.c_uint64]
    return loaded


@pytest.mark.parametrize("seed", [0, 1, 12345, 2**64 - 1])
@pytest.mark.parametrize("counter", [[0, 0, 0, 0], [1, 2, 3, 4], [2**64 - 2] * 4])
def test_words_are_those_of_numpy(library, seed, counter):
    words = WORDS()
    library.pock_philox(WORDS(*[counter[0] + 1, *counter[1:]]), KEY(seed, 0), words)
    assert list(words) == np.random.Philox(key=seed, counter=counter).random_raw(4).tolist()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 100, 1001])
@pytest.mark.parametrize("seed", [0, 9, 2**63])
def test_the_order_is_that_of_the_trainer(library, count, seed):
    memory = (ctypes.c_uint8 * library.pock_order_bytes(ctypes.c_uint64(count)))()
    order = Order(ctypes.addressof(memory), count, seed, 0, 0)
    for start in (0, 2 * count + count // 2, 10**12):  # over the end of an epoch; far away
        wanted = samples_at(seed, count, start, count + 1)
        found = [library.pock_order_at(order, start + i) for i in range(count + 1)]
        assert found == wanted.tolist()


def test_without_memory_the_order_is_that_of_the_file(library):
    order = Order(None, 3, 5, 0, 0)
    assert [library.pock_order_at(order, i) for i in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_a_count_beyond_memory_is_not_taken_for_a_small_one(library):
    assert (
        library.pock_order_bytes(ctypes.c_uint64(2**63))
        == 2 ** (8 * ctypes.sizeof(ctypes.c_size_t)) - 1
    )

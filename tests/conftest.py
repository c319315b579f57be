"""What several folders of tests share: one small compiled model and data that it can learn."""

import os

import numpy as np
import pytest
import small_net

# TVM's own pool, on which the tests run single kernels, pins the main thread to the first core and
# with it all that is started later; to be set before TVM is loaded.
os.environ.setdefault("TVM_BIND_THREADS", "0")


@pytest.fixture(scope="session", autouse=True)
def kernel_cache(tmp_path_factory):
    """A cache of the session's own: many tests compile the same kernels; no records but ours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POCK_RECORDS", str(tmp_path_factory.mktemp("records")))
        patch.setenv("POCK_CACHE", str(tmp_path_factory.mktemp("kernels")))
        yield


@pytest.fixture(scope="session")
def small_artifact(tmp_path_factory):
    """The small net, compiled for this machine with SGD; tests only read it."""
    from pock_tvm import compile
    from pock_tvm.frontend import load_model

    model = load_model("small_net:build", small_net.BATCH)
    return compile(model, tmp_path_factory.mktemp("small") / "net").artifact


@pytest.fixture(scope="session")
def small_samples():
    """Inputs and labels: the brighter, the higher the class."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, small_net.CLASSES, 22)
    pixels = generator.normal(size=(22, 1, 8, 8)) + labels[:, None, None, None]
    return pixels.astype("float32"), labels


@pytest.fixture(scope="session")
def small_data(small_samples, tmp_path_factory):
    """The same as an .npz file."""
    path = tmp_path_factory.mktemp("data") / "small.npz"
    pixels, labels = small_samples
    np.savez(path, **{small_net.INPUT: pixels, "labels": labels})
    return path

"""An artifact holds the kernels of its step as they were before they were scheduled."""

import gzip
import json
from dataclasses import replace

import pytest
import tvm_ffi

from pock_tvm.compilation.kernel_sources import (
    KERNELS_FILE,
    read_kernel_sources,
    write_kernel_sources,
)
from pock_tvm.errors import ArtifactError, TuningError
from pock_tvm.relay_passes.share_kernels import kernel_text


def test_every_kernel_of_a_step_is_there_under_its_name(small_artifact):
    sources = read_kernel_sources(small_artifact)
    calls = small_artifact.plan()["train_step"]["calls"]
    assert set(sources) == {call["kernel"] for call in calls}
    overwriting = {call["kernel"] for call in calls if call["overwrites"]}
    assert overwriting.isdisjoint(k for k, s in sources.items() if s.in_place)


def test_what_is_written_is_read_back(small_artifact, tmp_path):
    sources = read_kernel_sources(small_artifact)
    one = sorted(sources)[0]
    raw = write_kernel_sources({k: s.func for k, s in sources.items()}, {one})
    (tmp_path / KERNELS_FILE).write_bytes(raw)
    again = read_kernel_sources(replace(small_artifact, directory=tmp_path))
    assert [k for k, s in again.items() if s.in_place] == [one]
    for name, source in sources.items():
        assert tvm_ffi.structural_equal(source.func, again[name].func)
        assert kernel_text(source.func) == kernel_text(again[name].func)
    assert write_kernel_sources({k: s.func for k, s in again.items()}, {one}) == raw


def test_an_artifact_without_kernels_has_to_be_compiled_again(small_artifact):
    with pytest.raises(TuningError, match=r"holds no kernels\.json\.gz; compile it again"):
        read_kernel_sources(replace(small_artifact, files={}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        gzip.compress(b"[" * 100_000),
        gzip.compress(b"[]"),
        gzip.compress(b"{}"),
        gzip.compress(json.dumps({"schema": 1, "tvm": "0", "kernels": [1]}).encode()),
        gzip.compress(json.dumps({"schema": 1, "tvm": "0", "kernels": {"k": {}}}).encode()),
        gzip.compress(b'{"schema": 1}')[:-6],
    ],
    ids=range(8),
)
def test_a_file_that_is_something_else(small_artifact, tmp_path, content):
    (tmp_path / KERNELS_FILE).write_bytes(content)
    with pytest.raises(ArtifactError, match="holds no kernels"):
        read_kernel_sources(replace(small_artifact, directory=tmp_path))


def test_another_version_of_tvm(small_artifact, tmp_path):
    document = {"schema": 1, "tvm": "0.19", "kernels": {}}
    (tmp_path / KERNELS_FILE).write_bytes(gzip.compress(json.dumps(document).encode()))
    with pytest.raises(TuningError, match=r"written by TVM 0\.19; compile it again"):
        read_kernel_sources(replace(small_artifact, directory=tmp_path))

"""Low-rank factors in a delta: how they come out of a file, and which are refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pock_tvm.artifact.fingerprint import tensors_sha256
from pock_tvm.artifact.merge_lora import merged_weight
from pock_tvm.errors import ArtifactError
from pock_tvm.export import apply_delta, read_delta
from pock_tvm.export.delta import Delta
from pock_tvm.export.low_rank import LowRankChange
from pock_tvm.export.tensors import read_with_metadata

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((5, 7)).astype("float32")
CHANGE = LowRankChange(
    name="w",
    shape=(5, 7),
    a=RNG.standard_normal((7, 2)).astype("float32"),
    b=RNG.standard_normal((2, 5)).astype("float32"),
    rank=2,
    alpha=3.0,
    transposed=True,
)


@pytest.fixture
def files(tmp_path):
    """The original, and a delta that adapts it."""
    save_file({"w": WEIGHT}, tmp_path / "base.safetensors")
    delta = Delta(
        model="net",
        base_sha256=tensors_sha256({"w": WEIGHT}),
        base_tensors=("w",),
        aliases={},
        changes=(CHANGE,),
        steps=1,
    )
    delta.write(tmp_path / "net.delta")
    return tmp_path / "base.safetensors", tmp_path / "net.delta"


def test_the_file_holds_two_factors_and_no_weight(files):
    assert load_file(files[1]).keys() == {"w#lora_A", "w#lora_B"}
    found = read_delta(files[1])
    (change,) = found.changes
    assert replace(change, a=0, b=0) == replace(CHANGE, a=0, b=0)
    assert change.a.tobytes() + change.b.tobytes() == CHANGE.a.tobytes() + CHANGE.b.tobytes()
    assert found.by_kind() == {"lora": {"tensors": 1, "bytes": 4 * 2 * (7 + 5)}}
    assert found.changed_values == 2 * (7 + 5)


def test_applied_it_is_the_merged_weight(files, tmp_path):
    apply_delta(*files, tmp_path / "out.safetensors")
    wanted = merged_weight(WEIGHT, CHANGE.a, CHANGE.b, scale=1.5, transposed=True)
    np.testing.assert_array_equal(load_file(tmp_path / "out.safetensors")["w"], wanted)
    by_hand = WEIGHT + 1.5 * (CHANGE.a @ CHANGE.b).T
    np.testing.assert_allclose(wanted, by_hand, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 7, 1, 1), (1, 5, 7)])
def test_axes_of_extent_one_do_not_count(shape):
    change = replace(CHANGE, shape=shape)
    flat = CHANGE.apply(WEIGHT)
    np.testing.assert_array_equal(change.apply(WEIGHT.reshape(shape)), flat.reshape(shape))


def poisoned(value, by):
    value = value.copy()
    value.flat[3] = by
    return value


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        ({"a": poisoned(CHANGE.a, np.nan)}, "1 values that are NaN or infinite"),
        ({"b": poisoned(CHANGE.b, np.inf)}, "1 values that are NaN or infinite"),
        ({"alpha": np.nan}, "alpha of 'w' is nan"),
        ({"rank": 3}, "do not fit"),
        ({"a": CHANGE.a[:6]}, "do not fit"),
        ({"b": CHANGE.b[:1]}, "do not fit"),
        ({"b": CHANGE.b[0]}, "do not fit"),
        ({"a": np.float32(1)}, "do not fit"),
        ({"a": CHANGE.a.astype("float64")}, "do not fit"),
        ({"a": CHANGE.a.astype("int32"), "b": CHANGE.b.astype("int32")}, "do not fit"),
        ({"transposed": False}, "do not fit"),
        ({"shape": (7, 5)}, "do not fit"),
        ({"shape": (35,)}, "do not fit"),
        ({"shape": (1 << 33, 1 << 33)}, "do not fit"),
    ],
)
def test_what_does_not_fit_together_is_refused(edit, match):
    CHANGE.check()
    with pytest.raises(ArtifactError, match=match):
        replace(CHANGE, **edit).check()


def test_a_product_that_overflows_is_refused():
    with pytest.raises(ArtifactError, match="NaN or infinite"):
        replace(CHANGE, a=np.full_like(CHANGE.a, 1e38), alpha=1e6).apply(WEIGHT)


def test_another_tensor_is_refused():
    for other in (WEIGHT.T, WEIGHT.astype("float64")):
        with pytest.raises(ArtifactError, match=r"the delta changes float32\[5, 7\]"):
            CHANGE.apply(other)


@pytest.mark.parametrize(
    "edit",
    [
        {"rank": 0},
        {"rank": -2},
        {"rank": True},
        {"rank": "2"},
        {"alpha": "much"},
        {"alpha": 10**400},
        {"kind": "loha"},
        {"shape": [5, -7]},
    ],
)
def test_a_forged_file_is_refused_before_anything_is_written(files, tmp_path, monkeypatch, edit):
    monkeypatch.setattr("pock_tvm.export.parse_delta.content_sha256", lambda about, tensors: "")
    tensors, about = read_with_metadata(files[1])
    rows = json.loads(about["changes"])
    rows["w"] |= edit
    save_file(tensors, files[1], about | {"changes": json.dumps(rows), "sha256": ""})
    with pytest.raises(ArtifactError, match="lacks or misspells a field"):
        apply_delta(*files, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()

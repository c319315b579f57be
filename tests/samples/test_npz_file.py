import numpy as np
import pytest

from pock_tvm.artifact.sample_form import SampleForm, TensorForm
from pock_tvm.errors import BatchError
from pock_tvm.samples.npz_file import npz_source, read_npz_arrays


def test_arrays_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3), labels=np.ones((2, 2)))
    read = read_npz_arrays(tmp_path / "a.npz")
    assert read["x"].tolist() == [0, 1, 2]
    assert read["labels"].shape == (2, 2)


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    whole = (tmp_path / "a.npz").read_bytes()
    for length in range(0, len(whole), 5):
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        with pytest.raises(BatchError, match=r"cut\.npz is not an \.npz of plain arrays"):
            read_npz_arrays(tmp_path / "cut.npz")


def test_what_is_something_else_is_refused(tmp_path):
    with pytest.raises(BatchError, match=r"cannot read .*none\.npz: No such file"):
        read_npz_arrays(tmp_path / "none.npz")
    np.save(tmp_path / "one.npy", np.ones(2))
    with pytest.raises(BatchError, match="is a single array"):
        read_npz_arrays(tmp_path / "one.npy")
    np.savez(tmp_path / "objects.npz", x=np.array([{}]))
    with pytest.raises(BatchError, match="of plain arrays"):
        read_npz_arrays(tmp_path / "objects.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_pieces_of_a_file_are_the_whole(save, tmp_path):
    x = np.random.default_rng(0).normal(size=(7, 2, 3))
    arrays = {"x": x, "turned": np.asfortranarray(x), "labels": np.arange(7, dtype=">i4")}
    save(tmp_path / "a.npz", **arrays)
    source = npz_source(tmp_path / "a.npz")
    assert source.count == 7
    for most in (1, 3, 7, 9):
        pieces = list(source.pieces(most))
        assert len(pieces) == -(-7 // most)
        for name, array in arrays.items():
            np.testing.assert_array_equal(np.concatenate([p[name] for p in pieces]), array)


def test_what_cannot_be_cut_into_samples_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3), labels=np.arange(4))
    with pytest.raises(BatchError, match="different numbers of samples: 'x' 3, 'labels' 4"):
        npz_source(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz")
    with pytest.raises(BatchError, match="holds no arrays"):
        npz_source(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", x=np.array([{}]))
    with pytest.raises(BatchError, match="of plain arrays"):
        npz_source(tmp_path / "a.npz")


def test_a_bad_value_is_named_by_its_place_in_the_file(tmp_path):
    x = np.zeros((9, 2), np.float32)
    x[7, 1] = np.nan
    np.savez(tmp_path / "a.npz", x=x, labels=np.array([0] * 8 + [4]))
    inputs = (TensorForm(name="x", dtype="float32", shape=(2,)),)
    label = TensorForm(name="labels", dtype="int32", shape=(), limit=3)
    form = SampleForm(inputs=inputs, label=label, batch=2)
    with pytest.raises(BatchError, match=r"x\[7, 1\] is nan; take that sample out"):
        list(npz_source(tmp_path / "a.npz").checked(form, 4, labelled=True))
    x[7, 1] = np.inf
    np.savez(tmp_path / "a.npz", x=x, labels=np.array([0] * 8 + [4]))
    with pytest.raises(BatchError, match=r"labels\[8\] is 4; valid are 0 to 2; .* --head 5"):
        list(npz_source(tmp_path / "a.npz").checked(form, 4, labelled=True))

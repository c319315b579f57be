import numpy as np
import pytest

from pock_tvm.errors import BatchError
from pock_tvm.samples.npz_file import read_npz_arrays


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

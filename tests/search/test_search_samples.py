"""Samples: the split, and data that is refused."""

import numpy as np
import pytest

from pock_tvm.errors import BatchError
from pock_tvm.search.samples import Samples, Split, check_split, read_npz, split


def _samples(labels):
    labels = np.asarray(labels)
    return Samples({"x": np.arange(len(labels))[:, None]}, labels)


def test_the_parts_hold_every_sample_once_and_every_class_in_its_share():
    labels = np.repeat([0, 1, 2], [40, 20, 60])
    parts = split(_samples(labels), held_out=0.25, test=0.25, seed=3)
    pieces = [parts.train, parts.held_out, parts.test]
    seen = np.concatenate([piece.samples["x"].ravel() for piece in pieces])
    assert sorted(seen) == list(range(120))
    for piece, share in zip(pieces, (0.5, 0.25, 0.25), strict=True):
        counts = np.bincount(piece.labels, minlength=3)
        assert np.abs(counts - share * np.array([40, 20, 60])).max() <= 1
        assert (labels[piece.samples["x"].ravel()] == piece.labels).all()


def test_the_split_follows_the_seed():
    samples = _samples(np.arange(60) % 3)
    first, again, other = (split(samples, seed=s).test.samples["x"].tolist() for s in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("labels", "batch", "classes", "message"),
    [
        (np.arange(12) % 2, 8, 2, "fewer than a batch of 8"),
        (np.ones(40, int), 8, 2, "every label to train on is 1"),
        (np.arange(40) % 5, 8, 4, "labels go up to 4, but the head has 4 outputs"),
    ],
)
def test_data_that_nothing_can_be_learned_from_is_refused(labels, batch, classes, message):
    with pytest.raises(BatchError, match=message):
        check_split(split(_samples(labels)), batch, classes)


def test_one_class_to_train_on_is_refused_whatever_the_others_hold():
    one, two = _samples(np.ones(20, int)), _samples(np.arange(20) % 2)
    with pytest.raises(BatchError, match="every label to train on is 1"):
        check_split(Split(one, two, two), 4, 2)


def test_good_data_passes():
    check_split(split(_samples(np.arange(40) % 4)), 8, 4)


def test_no_samples_to_test_on():
    some = _samples(np.arange(20) % 2)
    with pytest.raises(BatchError, match="no samples are to test on"):
        check_split(Split(some, some, some.take(np.arange(0))), 4, 2)


def test_counts_have_to_agree():
    with pytest.raises(BatchError, match="3 samples with 2 labels"):
        Samples(np.zeros((3, 1)), np.zeros(2, int))


def test_npz(tmp_path):
    path = tmp_path / "some.npz"
    np.savez(path, x=np.zeros((3, 2)), labels=np.arange(3))
    assert len(read_npz(path)) == 3
    np.savez(path, x=np.zeros((3, 2)))
    with pytest.raises(BatchError, match="no array 'labels'"):
        read_npz(path)
    path.write_bytes(b"no archive")
    with pytest.raises(BatchError, match=r"not an \.npz"):
        read_npz(path)

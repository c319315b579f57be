import numpy as np

from pock_tvm import Trainer


def test_the_file_holds_the_logits(pock, small_artifact, small_data, small_samples, tmp_path):
    out = tmp_path / "out.npz"
    result = pock("predict", small_artifact.directory, "--data", small_data, "-o", out, "--json")
    assert result["shape"] == [22, 5]
    with Trainer(small_artifact.directory) as trainer, np.load(out) as written:
        logits = trainer.predict(small_samples[0])
        np.testing.assert_array_equal(written["logits"], logits)
        np.testing.assert_array_equal(written["predicted"], logits.argmax(1))
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]


def test_labels_are_not_needed(pock, small_artifact, small_samples, tmp_path):
    np.savez(tmp_path / "d.npz", pixels=small_samples[0])
    text = pock(
        *("predict", small_artifact.directory, "--data", tmp_path / "d.npz"),
        *("-o", tmp_path / "out.npz"),
    )
    assert "logits   22 x 5\n" in text


def test_a_place_that_cannot_be_written(refused, small_artifact, small_data, tmp_path):
    out = tmp_path / "none" / "out.npz"
    start = ("predict", small_artifact.directory, "--data", small_data)
    assert f"cannot write {out}: No such file" in refused(*start, "-o", out)

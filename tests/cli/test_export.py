import numpy as np
import small_net
from safetensors.numpy import load_file


def test_initial_weights_come_back_as_they_were(pock, small_artifact, tmp_path):
    result = pock("export", small_artifact.directory, "-o", tmp_path / "w.safetensors", "--json")
    weights = load_file(tmp_path / "w.safetensors")
    for name, value in small_net.build()[0].state_dict().items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(weights[name], value.numpy(), name)
    assert result["bytes"] == (tmp_path / "w.safetensors").stat().st_size


def test_trained_weights_differ(pock, small_artifact, small_data, tmp_path):
    start = (small_artifact.directory, "--checkpoint", tmp_path / "c")
    pock("train", *start, "--data", small_data, "--lr", 0.1)
    assert "steps since compilation  6\n" in pock("export", *start, "-o", tmp_path / "w")
    weights = load_file(tmp_path / "w")
    before = small_net.build()[0].state_dict()
    assert (weights["classifier.weight"] != before["classifier.weight"].numpy()).any()


def test_a_place_that_cannot_be_written(refused, small_artifact, tmp_path):
    out = tmp_path / "none" / "w.safetensors"
    assert f"cannot write {out}" in refused("export", small_artifact.directory, "-o", out)

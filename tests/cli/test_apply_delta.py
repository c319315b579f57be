import numpy as np
import small_net
import torch
from safetensors.numpy import load_file


def made(pock, small_artifact, small_data, folder):
    """Train the small net, write its delta and its whole weights."""
    start = (small_artifact.directory, "--checkpoint", folder / "c")
    pock("train", *start, "--data", small_data, "--lr", 0.1)
    pock("export", *start, "-o", folder / "w.safetensors")
    pock("export", *start, "-o", folder / "net.delta")
    return folder / "net.delta", load_file(folder / "w.safetensors")


def test_a_delta_on_a_state_dict_is_the_export(pock, small_artifact, small_data, tmp_path):
    delta, wanted = made(pock, small_artifact, small_data, tmp_path)
    torch.save(small_net.build()[0].state_dict(), tmp_path / "base.pt")
    out = tmp_path / "out.pt"
    result = pock("apply-delta", tmp_path / "base.pt", delta, "-o", out, "--json")
    found = torch.load(out, weights_only=True)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name].numpy(), value, name)
    assert result["steps_done"] == 6
    assert result["tensors_changed"] == sum(
        bool((value.numpy() != wanted[name]).any())
        for name, value in small_net.build()[0].state_dict().items()
    )


def test_a_delta_on_an_artifact_is_a_checkpoint(pock, small_artifact, small_data, tmp_path):
    delta, wanted = made(pock, small_artifact, small_data, tmp_path)
    text = pock("apply-delta", small_artifact.directory, delta, "-o", tmp_path / "new.ckpt")
    assert "tensors changed  " in text
    again = (small_artifact.directory, "--checkpoint", tmp_path / "new.ckpt")
    pock("export", *again, "-o", tmp_path / "again.safetensors")
    found = load_file(tmp_path / "again.safetensors")
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, name)


def test_another_base_is_refused(pock, refused, small_artifact, small_data, tmp_path):
    delta, _ = made(pock, small_artifact, small_data, tmp_path)
    start = ("apply-delta", tmp_path / "w.safetensors", delta, "-o", tmp_path / "out")
    assert "made for other weights" in refused(*start)
    assert "no such file" in refused("apply-delta", tmp_path / "none.pt", *start[2:])
    assert "is not a delta" in refused(*start[:2], tmp_path / "w.safetensors", *start[3:])
    assert not (tmp_path / "out").exists()

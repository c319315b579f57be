import numpy as np
import onnxruntime
import pytest
import small_net
import torch
from safetensors.numpy import load_file


def test_initial_weights_come_back_as_they_were(pock, small_artifact, tmp_path):
    result = pock("export", small_artifact.directory, "-o", tmp_path / "w.safetensors", "--json")
    weights = load_file(tmp_path / "w.safetensors")
    for name, value in small_net.build()[0].state_dict().items():
        np.testing.assert_array_equal(weights[name], value.numpy(), name)
    assert result["bytes"] == (tmp_path / "w.safetensors").stat().st_size


def test_trained_weights_differ(pock, small_artifact, small_data, tmp_path):
    start = (small_artifact.directory, "--checkpoint", tmp_path / "c")
    pock("train", *start, "--data", small_data, "--lr", 0.1)
    where = ("-o", tmp_path / "w", "--format", "safetensors")
    assert "steps since compilation  6\n" in pock("export", *start, *where)
    weights = load_file(tmp_path / "w")
    before = small_net.build()[0].state_dict()
    assert (weights["classifier.weight"] != before["classifier.weight"].numpy()).any()


def test_a_place_that_cannot_be_written(refused, small_artifact, tmp_path):
    out = tmp_path / "none" / "w.safetensors"
    assert f"cannot write {out}" in refused("export", small_artifact.directory, "-o", out)


@pytest.mark.parametrize("suffix", ["pt", "pth", "bin"])
def test_a_state_dict_loads_strictly(pock, small_artifact, tmp_path, suffix):
    out = tmp_path / f"w.{suffix}"
    assert pock("export", small_artifact.directory, "-o", out, "--json")["format"] == "torch"
    small_net.build()[0].load_state_dict(torch.load(out, weights_only=True), strict=True)


def test_an_onnx_file_is_made_of_the_module(pock, small_artifact, small_samples, tmp_path):
    out, model = tmp_path / "w.onnx", ("--model", "small_net:build")
    assert pock("export", small_artifact.directory, "-o", out, *model, "--json")["bytes"] > 1000
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {small_net.INPUT: small_samples[0]})  # any batch
    wanted = small_net.build()[0].eval()(torch.tensor(small_samples[0]))
    np.testing.assert_allclose(found, wanted.detach().numpy(), atol=1e-5)


def test_the_sizes_of_a_delta_are_shown(pock, small_artifact, small_data, tmp_path):
    start = (small_artifact.directory, "--checkpoint", tmp_path / "c")
    pock("train", *start, "--data", small_data, "--lr", 0.1)
    where = ("-o", tmp_path / "net.delta")
    result = pock("export", *start, *where, "--json")
    stored = load_file(tmp_path / "net.delta")
    assert result["changed_bytes"] == sum(value.nbytes for value in stored.values())
    assert result["changed_bytes"] == sum(k["bytes"] for k in result["changes"].values())
    state = small_net.build()[0].state_dict()
    counters = ("num_batches_tracked",)  # nothing that the artifact reads
    assert result["model_bytes"] == sum(
        v.numpy().nbytes for n, v in state.items() if not n.endswith(counters)
    )
    text = pock("export", *start, *where)
    assert f"changed                  {result['changed_bytes'] / 1024:,.1f} KiB of " in text
    assert f"dense                    {result['changes']['dense']['tensors']} tensors, " in text


def test_what_to_write_must_be_said(refused, misused, small_artifact, tmp_path):
    start = ("export", small_artifact.directory, "-o")
    assert "pass --format with one of" in refused(*start, tmp_path / "w")
    assert "pass --model" in refused(*start, tmp_path / "w.onnx")
    assert "for the format onnx" in misused(*start, tmp_path / "w.pt", "--model", "zoo:x")
    assert not list(tmp_path.iterdir())


def test_an_artifact_for_another_machine(pock, small_artifact, tmp_path):
    """Exporting runs nothing, so the library that other machines lack is not asked for."""
    import pock_tvm
    from pock_tvm.frontend import load_model

    model = load_model("small_net:build", small_net.BATCH)
    pock_tvm.compile(model, tmp_path / "pi", target="raspberry-pi-4", update="head")
    pock("export", tmp_path / "pi", "-o", tmp_path / "w.safetensors")
    assert load_file(tmp_path / "w.safetensors").keys() == small_net.build()[0].state_dict().keys()


def test_a_checkpoint_of_another_artifact(pock, refused, small_artifact, small_data, tmp_path):
    pock("compile", "small_net:build", "-o", tmp_path / "net", "--batch", 4, "--update", "head")
    train = ("--data", small_data, "--lr", 0.1, "--checkpoint", tmp_path / "c")
    pock("train", tmp_path / "net", *train)
    start = ("export", small_artifact.directory, "-o", tmp_path / "w.pt")
    assert "is not a checkpoint of" in refused(*start, "--checkpoint", tmp_path / "c")
    assert "cannot read" in refused(*start, "--checkpoint", tmp_path / "none")

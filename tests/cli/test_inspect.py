import pytest


def test_artifact_json(pock, small_artifact):
    found = pock("inspect", small_artifact.directory, "--json", "--top", 2)
    assert found["kind"] == "artifact"
    assert found["verified"]
    assert found["target"] == "host"
    assert found["trainable"][0] == "features.stem.weight"
    assert [entry["name"] for entry in found["entries"]] == ["train_step", "evaluate", "predict"]
    assert found["inputs"][0] == {"name": "pixels", "shape": [4, 1, 8, 8], "dtype": "float32"}
    assert len(found["largest_tensors"]) == 2
    memory = found["memory"]
    assert memory["trainable_weights_bytes"] == 4 * sum(
        (72, 8, 8, 72, 8, 128, 16, 80, 5)  # stem, norm, depthwise, pointwise, classifier
    )
    assert memory["statistics_bytes"] == 4 * 16


def test_artifact_tables(pock, small_artifact):
    text = pock("inspect", small_artifact.directory)
    assert "update     full: 9 of 9 tensors learn\n" in text
    for title in ("entry points", "memory", "largest tensors", "files, every SHA-256 checked"):
        assert f"\n{title}\n" in text
    assert "\ntransients at the peak, call " in text


def test_calls_by_winograd_tiles_are_counted(pock, monkeypatch, tmp_path):
    from pock_tvm.compilation import winograd

    monkeypatch.setattr(winograd, "tile_outputs", lambda *_: 2)
    words = ("compile", "winograd_net:build", "--update", "stem.weight", "-o")
    assert "by winograd tiles" in pock(*words, tmp_path / "tiles", "--no-cache")
    assert pock("inspect", tmp_path / "tiles", "--json")["winograd_calls"] == 4
    assert "by winograd tiles  4 calls in a step" in pock("inspect", tmp_path / "tiles")
    assert "by winograd tiles" not in pock(*words, tmp_path / "direct", "--winograd", "off")
    assert pock("inspect", tmp_path / "direct", "--json")["winograd_calls"] == 0


def test_the_peak_adds_up(pock, small_artifact):
    found = pock("inspect", small_artifact.directory, "--json", "--top", 1000)
    peak = found["peak"]
    lived = sum(peak["bytes_by_kind"].values())
    bound = found["memory"]["transient_lower_bound_bytes"]
    assert bound - 64 * len(peak["tensors"]) < lived <= bound  # tensors are padded to 64 bytes
    assert all(t["live"][0] <= peak["call"] <= t["live"][1] for t in peak["tensors"])


def test_a_picture_to_point_at(pock, small_artifact, tmp_path):
    pock("inspect", small_artifact.directory, "--picture", tmp_path / "plan.html")
    page = (tmp_path / "plan.html").read_text()
    assert "pixels: float32[4, 1, 8, 8]" in page
    assert "<script" not in page


def test_a_picture_of_another_kind_is_wrong_usage(misused, small_artifact, tmp_path):
    path = tmp_path / "plan.jpg"
    assert "ends in .png, .svg or" in misused(
        "inspect", small_artifact.directory, "--picture", path
    )
    assert not path.exists()


@pytest.fixture
def checkpoint(pock, small_artifact, small_data, tmp_path):
    path = tmp_path / "c.ckpt"
    start = ("train", small_artifact.directory, "--data", small_data, "--lr", 0.1, "--steps", 3)
    pock(*start, "--seed", 7, "--checkpoint", path)
    return path


def test_checkpoint(pock, checkpoint):
    found = pock("inspect", checkpoint, "--json")
    assert (found["steps_done"], found["samples_drawn"], found["seed"]) == (3, 12, 7)
    assert {"name": "classifier.bias", "shape": [5]} in found["tensors"]
    assert "steps done                 3\n" in pock("inspect", checkpoint)


def test_a_damaged_checkpoint(refused, checkpoint):
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "is damaged" in refused("inspect", checkpoint)
    checkpoint.write_bytes(whole.replace(b'"step":"0000', b'"step":"0001'))
    assert "is damaged" in refused("inspect", checkpoint)
    checkpoint.write_bytes(whole[:-10])
    assert "it is truncated" in refused("inspect", checkpoint)
    checkpoint.write_bytes(b"\xff" * 99)
    assert "is not a checkpoint" in refused("inspect", checkpoint)
    checkpoint.write_bytes(b"")
    assert "is not a checkpoint" in refused("inspect", checkpoint)


def test_a_damaged_artifact(refused, artifact_copy):
    (artifact_copy / "step.o").write_bytes(b"")
    assert "step.o has 0 bytes" in refused("inspect", artifact_copy)


def test_nothing_there(refused, tmp_path):
    assert "is not an artifact: it has no manifest.json" in refused("inspect", tmp_path)

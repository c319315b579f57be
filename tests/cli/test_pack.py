import subprocess

import numpy as np
import pytest
import small_net
from PIL import Image

from pock_tvm import compile
from pock_tvm.artifact import dataset_file
from pock_tvm.artifact.dataset_file import write_dataset
from pock_tvm.frontend import load_model


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The small net with its standalone program."""
    model = load_model("small_net:build", small_net.BATCH)
    return compile(model, tmp_path_factory.mktemp("built") / "net", executable=True).artifact


@pytest.fixture
def pictures(tmp_path):
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(5):
            noise = generator.integers(0, 256, (9, 11), np.uint8)
            Image.fromarray(noise).save(tmp_path / "pictures" / name / f"{number}.png")
    return tmp_path / "pictures"


def test_pieces_make_the_same_file_as_all_at_once(
    pock, small_artifact, small_data, small_samples, tmp_path, monkeypatch
):
    description = small_artifact.description
    write_dataset(tmp_path / "whole", description, *small_samples)
    monkeypatch.setattr(dataset_file, "_CHUNK_BYTES", 3 * 260)  # three samples
    assert dataset_file.rows_of_a_piece(description) == 3
    words = ("pack", small_data, "-o", tmp_path / "d.pock", "--for", small_artifact.directory)
    assert pock(*words, "--json") == {
        "output": str(tmp_path / "d.pock"),
        "model": "build",
        "samples": 22,
        "bytes": 64 + 22 * 260,
        "classes": [],
    }
    assert (tmp_path / "d.pock").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.pock", "whole"]


def test_what_is_packed_trains_and_predicts_as_what_it_was_packed_from(
    pock, built, pictures, tmp_path
):
    net, packed = built.directory, tmp_path / "d.pock"
    text = pock("pack", pictures, "-o", packed, "--for", net)
    assert "10 samples for build\n" in text
    assert "cat, dog" in text
    start = ("train", net, "--lr", 0.1, "--steps", 4, "--seed", 3, "--json", "--data")
    losses = pock(*start, pictures)["losses"]
    assert pock(*start, packed)["losses"] == losses
    command = [built.executable, "train", "--weights", built.weights, "--data", packed]
    command += ["--steps", 4, "--lr", 0.1, "--seed", 3]

    def on_device(*words):
        line = [str(word) for word in (*command, *words)]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
        return [float(line.split()[3]) for line in done.stdout.splitlines()[:-1]]

    np.testing.assert_allclose(on_device(), losses, rtol=1e-6)
    changed = pock(*start, packed, "--augment", "crop=2,flip")["losses"]
    assert min(abs(a - b) for a, b in zip(changed, losses, strict=True)) > 1e-5
    np.testing.assert_allclose(on_device("--augment", "flip,crop=2"), changed, rtol=1e-6)


def test_without_labels_it_serves_prediction(pock, refused, small_artifact, tmp_path):
    np.savez(tmp_path / "d.npz", pixels=np.ones((3, 1, 8, 8), "float32"))
    words = ("pack", tmp_path / "d.npz", "-o", tmp_path / "d.pock", "--for")
    assert "holds no array 'labels'" in refused(*words, small_artifact.directory)
    assert not (tmp_path / "d.pock").exists()
    pock(*words, small_artifact.directory, "--unlabelled")
    given = ("predict", small_artifact.directory, "--data", tmp_path / "d.pock")
    assert pock(*given, "-o", tmp_path / "out.npz", "--json")["samples"] == 3


def test_what_cannot_be_packed_leaves_what_stood_there(
    refused, small_artifact, small_samples, pictures, tmp_path
):
    pixels, labels = small_samples
    to = ("-o", tmp_path / "d.pock", "--for", small_artifact.directory)
    (tmp_path / "d.pock").write_text("as it was")
    np.savez(tmp_path / "high.npz", pixels=pixels, labels=labels + 3)
    np.savez(tmp_path / "wide.npz", pixels=pixels[..., :7], labels=labels)
    (pictures / "dog" / "9.png").write_text("no picture")
    for data, said in (
        ("none.npz", "none.npz"),
        ("high.npz", "--head 8"),
        ("wide.npz", "the artifact takes (samples, 1, 8, 8)"),
        ("pictures", "cannot read the picture"),
        ("d.pock", "not an .npz"),
    ):
        assert said in refused("pack", tmp_path / data, *to)
        assert (tmp_path / "d.pock").read_text() == "as it was"
        assert not list(tmp_path.glob("*.partial"))
    to_nowhere = ("-o", tmp_path / "no" / "d.pock", "--for", small_artifact.directory)
    assert "cannot write" in refused("pack", tmp_path / "high.npz", *to_nowhere)

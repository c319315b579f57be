"""``--loss``, ``--optimizer`` and ``--clip`` in one word, from compilation to evaluation."""

import numpy as np
import pytest
import small_net

from pock_tvm import load_artifact


def test_a_loss_without_labels_and_clipping_that_is_priced(pock, tmp_path, small_samples):
    net, photos = tmp_path / "net", tmp_path / "photos.npz"
    report = pock(
        *("compile", "small_net:build", "-o", net, "--batch", small_net.CLASSES),
        *("--update", "features.*,classifier.weight", "--loss", "contrastive"),
        *("--optimizer", "lion:beta1=0.8", "--weight-decay", 0.1, "--decay-matrices-only"),
        *("--clip", "global-norm:0.5", "--json"),
    )
    description = load_artifact(net).description
    assert description.loss == {"name": "contrastive"}
    assert (
        report["optimizer"]
        == description.optimizer
        == {
            "name": "lion",
            "weight_decay": 0.1,
            "decay_matrices_only": True,
            "beta1": 0.8,
            "beta2": 0.99,
            "clip": "global-norm:0.5",
        }
    )
    cost = report["clipping"]
    assert cost["extra_bytes"] == cost["arena_bytes"] - cost["arena_bytes_without"]
    # every gradient is there at once, and beside it what the last one is made from
    gradients = 4 * sum(np.prod(t.shape) for t in description.tensors if t.trainable)
    assert cost["arena_bytes"] >= gradients

    pixels, _ = small_samples
    np.savez(photos, **{small_net.INPUT: pixels})
    words = ("--data", photos, "--json")
    trained = pock("train", net, "--lr", 1e-3, "--steps", 30, *words)
    # the batch is shuffled and the net sees one sample at a time: chance is all it can learn
    assert trained["losses"][-5:] == pytest.approx([np.log(small_net.CLASSES)] * 5, abs=0.3)
    measured = pock("evaluate", net, *words)
    whole = len(pixels) // small_net.CLASSES * small_net.CLASSES
    assert (measured["samples"], measured["accuracy"]) == (whole, None)
    assert "accuracy  -\n" in pock("evaluate", net, "--data", photos)
    assert "beta1 0.8, beta2 0.99, clip global-norm:0.5)" in pock("inspect", net)


def test_the_line_about_its_price(pock, tmp_path):
    words = ("compile", "small_net:build", "-o", tmp_path / "net", "--update", "bias")
    text = pock(*words, "--clip", "global-norm:1")
    assert "\nglobal-norm clipping keeps all gradients: +" in text
    assert "clipping" not in pock(*words)

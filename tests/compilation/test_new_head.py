import numpy as np
import pytest
import small_net

from pock_tvm import Trainer, compile
from pock_tvm.compilation.new_head import with_new_head
from pock_tvm.errors import UnsupportedModelError
from pock_tvm.frontend import load_model
from pock_tvm.frontend.torch_export import import_module


def test_a_new_head_on_the_same_features(tmp_path, small_samples):
    before = load_model("small_net:build", small_net.BATCH)
    model = with_new_head(before, 7)
    assert model.parameters["classifier.weight"].shape == (7, 16)
    assert model.parameters["classifier.bias"].tolist() == [0] * 7
    assert before.parameters["classifier.weight"].shape == (5, 16)  # left as it was
    assert list(before.mod["main"].ret_ty.shape) == [4, 5]
    kept = {n: v for n, v in model.parameters.items() if not n.startswith("classifier")}
    assert all(v is before.parameters[n] for n, v in kept.items())
    assert list(model.parameters) == list(before.parameters)
    compile(model, tmp_path / "net")
    pixels, labels = small_samples
    with Trainer(tmp_path / "net") as trainer:
        first = trainer.predict(pixels)
        losses = trainer.fit(pixels, labels + 2, epochs=8, learning_rate=0.1)
    assert first.shape == (22, 7)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_the_new_weights_are_those_of_a_fresh_linear_layer():
    model = with_new_head(load_model("small_net:build", 2), 1000)
    weight = model.parameters["classifier.weight"]
    assert weight.dtype == np.float32
    assert 0.24 < np.abs(weight).max() <= 0.25  # 1 / √16
    # the deviation of an even distribution, of 16,000 draws: 0.25/√3 within 2 %
    assert weight.std() == pytest.approx(0.25 / np.sqrt(3), rel=0.02)
    same = with_new_head(load_model("small_net:build", 2), 1000)
    np.testing.assert_array_equal(same.parameters["classifier.weight"], weight)


def test_what_has_no_head_of_classes_is_refused():
    import torch
    from torch import nn

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.norm = nn.Linear(4, 3), nn.LayerNorm(3)

        def forward(self, x):
            return self.norm(self.fc(x))

    model = import_module(Scaled(), (torch.zeros(1, 4),), 2, "scaled")
    with pytest.raises(UnsupportedModelError, match=r"last module holds norm\.weight, norm\.bias"):
        with_new_head(model, 5)

    class Folded(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 6)

        def forward(self, x):
            return self.fc(x).reshape(-1, 2, 3).sum(1).repeat(1, 2)

    model = import_module(Folded(), (torch.zeros(1, 4),), 2, "folded")
    with pytest.raises(UnsupportedModelError, match="folded cannot be given a new head: "):
        with_new_head(model, 5)
    with pytest.raises(UnsupportedModelError, match="two are least"):
        with_new_head(model, 1)

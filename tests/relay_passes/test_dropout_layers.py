"""Every dropout layer of PyTorch, imported: which elements it drops, and what it leaves of them."""

import numpy as np
import philox
import pytest
import torch
from pass_checks import run
from torch import nn

from pock_tvm.frontend.torch_export import import_module
from pock_tvm.relay_passes import pipeline

P = 0.25
COUNTER = np.array([3, 7])


def dropped(module: nn.Module, x: np.ndarray) -> np.ndarray:
    model = import_module(module, (torch.zeros(1, *x.shape[1:]),), x.shape[0], "net")
    out, counter = run(pipeline.canonicalize("frozen", {}, dropout=True)(model.mod), x, COUNTER)
    np.testing.assert_array_equal(counter, np.add(COUNTER, [0, 1]))
    return out


@pytest.mark.parametrize(
    "layer, shape, channels",
    [
        (nn.Dropout(P), (4, 5, 3), False),
        (nn.Dropout1d(P), (4, 5, 3), True),
        (nn.Dropout2d(P), (4, 5, 3, 2), True),
        (nn.Dropout3d(P), (4, 5, 3, 2, 2), True),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_what_is_kept_is_scaled(layer, shape, channels) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype("float32")
    mask = philox.kept(*COUNTER.tolist(), 0, shape[:2] if channels else shape, P)
    assert 0 < mask.mean() < 1
    spread = mask.reshape(*mask.shape, *[1] * (len(shape) - mask.ndim))
    np.testing.assert_allclose(dropped(layer, x), x * spread / (1 - P), rtol=1e-6)


@pytest.mark.parametrize("channels", [False, True])
def test_alpha_dropout_keeps_mean_and_variance(channels) -> None:
    """The formula is checked against PyTorch's in test_dropout.py; here is what it is for."""
    shape = (100, 100, 2)
    layer = nn.FeatureAlphaDropout(P) if channels else nn.AlphaDropout(P)
    x = np.random.default_rng(0).standard_normal(shape).astype("float32")
    y = dropped(layer, x)
    mask = philox.kept(*COUNTER.tolist(), 0, shape[:2] if channels else shape, P)
    spread = np.broadcast_to(mask.reshape(*mask.shape, *[1] * (3 - mask.ndim)), shape)
    assert np.ptp(y[~spread]) < 1e-6  # all the same value
    # 2e4 draws with a variance of 1, and of about 2 for the squares; channels share theirs
    assert abs(y.mean()) < 5 / 1e4**0.5
    assert abs(y.var() - 1) < 10 / 1e4**0.5


@pytest.mark.parametrize("layer", [nn.Dropout(1.0), nn.AlphaDropout(1.0)])
def test_all_is_dropped(layer) -> None:
    assert not dropped(layer, np.ones((2, 3), "float32")).any()


class Attention(nn.Module):
    """As the models of ``transformers`` call it."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_dropout = P

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p = 0.0 if not self.training else self.attention_dropout
        return nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=p, is_causal=True)


class MultiHead(nn.Module):
    def __init__(self, *, weights: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, dropout=P, batch_first=True)
        self.weights = weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=self.weights)[0]


@pytest.mark.parametrize(
    "net",
    [Attention(), MultiHead(weights=False), MultiHead(weights=True)],
    ids=["function", "module", "module with weights"],
)
@pytest.mark.parametrize("training", [False, True])
def test_dropout_inside_attention_is_found(net, training) -> None:
    net.train(training)
    model = import_module(net, (torch.zeros(1, 3, 4),), 2, "net")
    assert str(model.mod).count('"pock.dropout"') == 1
    assert all(m.training == training for m in net.modules())


def test_dropout_inside_attention_drops_weights() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype("float32")
    q = torch.tensor(x)
    scores = (q @ q.mT / 2).masked_fill(torch.ones(3, 3).triu(1).bool(), -torch.inf)
    mask = torch.tensor(philox.kept(*COUNTER.tolist(), 0, (2, 3, 3), P))
    wanted = scores.softmax(-1) * mask / (1 - P) @ q
    np.testing.assert_allclose(dropped(Attention(), x), wanted, atol=1e-6)


def test_attention_without_dropout_is_exported_once(monkeypatch) -> None:
    net, calls, export = Attention(), [], torch.export.export
    net.attention_dropout = 0.0
    monkeypatch.setattr(torch.export, "export", lambda *a: calls.append(a) or export(*a))
    import_module(net, (torch.zeros(1, 3, 4),), 2, "net")
    assert len(calls) == 1

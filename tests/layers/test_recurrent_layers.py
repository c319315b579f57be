"""LSTM, GRU and RNN, unrolled: values and gradients."""

import pytest
from layer_tables import CompiledLayers, Layer
from torch import nn

pytestmark = pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")  # _flat_weights


class Recurrent(nn.Module):
    """A recurrent layer and all that it returns, its last state too."""

    def __init__(self, kind, *sizes, **options):
        super().__init__()
        self.layer = kind(*sizes, **options)

    def forward(self, x, *state):
        if state and isinstance(self.layer, nn.LSTM):
            out, (h, c) = self.layer(x, state)
            return out, h, c
        out, last = self.layer(x, *state)
        return (out, *last) if isinstance(last, tuple) else (out, last)


def recurrent(kind, name, shape, *state, **options):
    sizes = (shape[-1], 3)
    return Layer(
        f"{kind.__name__}-{name}".lower(), Recurrent(kind, *sizes, **options), (shape, *state)
    )


LSTM, GRU, RNN = nn.LSTM, nn.GRU, nn.RNN

LAYERS = [
    recurrent(LSTM, "plain", (3, 2, 5)),
    recurrent(GRU, "plain", (3, 2, 5)),
    recurrent(RNN, "plain", (3, 2, 5)),
    recurrent(LSTM, "two-layers-both-directions", (2, 2, 4), num_layers=2, bidirectional=True),
    recurrent(GRU, "both-directions", (2, 3, 5), batch_first=True, bidirectional=True),
    recurrent(RNN, "two-layers-relu", (2, 2, 4), num_layers=2, nonlinearity="relu"),
    recurrent(GRU, "without-bias", (2, 2, 5), bias=False),
    recurrent(LSTM, "no-batch", (2, 5)),
    recurrent(LSTM, "state", (2, 2, 5), (1, 2, 3), (1, 2, 3)),
    recurrent(GRU, "state", (2, 2, 5), (1, 2, 3)),
    recurrent(LSTM, "dropout-in-eval", (2, 2, 5), num_layers=2, dropout=0.5),
    recurrent(LSTM, "projection", (2, 2, 5), proj_size=2),
    Layer("lstm-cell", nn.LSTMCell(5, 3), ((2, 5),)),
    Layer("gru-cell", nn.GRUCell(5, 3), ((2, 5), (2, 3))),
    Layer("rnn-cell", nn.RNNCell(5, 3), ((2, 5), (2, 3))),
]


@pytest.fixture(scope="module")
def compiled() -> CompiledLayers:
    return CompiledLayers(LAYERS)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_layer_matches_torch(compiled: CompiledLayers, layer: Layer) -> None:
    compiled.check(layer)

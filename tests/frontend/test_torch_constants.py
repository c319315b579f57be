"""What a PyTorch program makes of constants alone is computed before the import."""

import numpy as np
import pytest
import torch
from tvm import relax
from tvm.ir import GenericConst

from pock_tvm.frontend.torch_export import import_module
from pock_tvm.relay_passes.rewrite import bindings_of


class Causal(torch.nn.Module):
    """A linear layer, a causal mask, positions, and a dropout over constants."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(6, 6)
        self.register_buffer("frequency", torch.arange(1.0, 7.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = torch.arange(x.shape[1])
        allowed = (places[None] <= places[:, None]).expand(x.shape[0], 6, 6)
        waves = torch.cos(places[:, None].float() * self.frequency)
        return torch.where(allowed, self.linear(x) + waves, -1.0)


def operators(mod):
    return [b.value.op.name for b in bindings_of(mod["main"]) if isinstance(b.value, relax.Call)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masks_and_tables_are_constants(dtype):
    module = Causal().to(dtype)
    x = torch.zeros(2, 6, 6, dtype=dtype)
    model = import_module(module, (x,), 2, "causal")
    left = operators(model.mod)
    assert not {"relax.arange", "relax.cos", "relax.less_equal", "relax.multiply"} & set(left)
    assert {"relax.broadcast_to", "relax.where", "relax.add"} <= set(left)
    found = []
    relax.analysis.post_order_visit(
        model.mod["main"],
        lambda e: found.append(e.value.numpy()) if isinstance(e, GenericConst) else None,
    )
    masks = [value for value in found if value.dtype == bool]
    assert [mask.shape for mask in masks] == [(6, 6)]  # kept once, not once per sample
    tables = [v for v in found if v.shape == (6, 6) and v.dtype == str(dtype).split(".")[1]]
    waves = np.cos(np.arange(6)[:, None] * np.arange(1.0, 7.0))
    assert len(tables) == 1
    np.testing.assert_allclose(tables[0], waves, rtol=1e-5)


def test_what_is_large_by_repetition_alone_is_not_kept():
    class Filled(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.full((300, 300), 2.0) + torch.ones(1).expand(300, 300)

    model = import_module(Filled(), (torch.zeros(2, 300, 300),), 2, "filled")
    assert {"relax.full", "relax.broadcast_to"} <= set(operators(model.mod))


def test_chance_is_not_computed():
    class Chance(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.nn.functional.dropout(torch.ones(4), 0.5, training=True)

    model = import_module(Chance(), (torch.zeros(2, 4),), 2, "chance")
    assert "pock.dropout" in operators(model.mod)

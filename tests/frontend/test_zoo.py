import pytest
import torch

from pock_tvm.errors import UnknownNameError
from pock_tvm.frontend.zoo import build_zoo_model


@pytest.fixture(scope="module")
def mobilenet_v2():
    module, _ = build_zoo_model("mobilenet_v2")
    return module.eval()


def test_mobilenet_v2_keeps_its_activations_alive(mobilenet_v2):
    sizes = []
    hooks = [
        layer.register_forward_hook(lambda _layer, _inputs, y: sizes.append(y.std().item()))
        for layer in mobilenet_v2.modules()
        if isinstance(layer, torch.nn.BatchNorm2d)
    ]
    with torch.no_grad():
        mobilenet_v2(torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
    for hook in hooks:
        hook.remove()
    assert len(sizes) == 52
    assert min(sizes) > 0.1
    assert max(sizes) < 20


def test_weights_follow_the_seed(mobilenet_v2):
    again, _ = build_zoo_model("mobilenet_v2")
    other, _ = build_zoo_model("mobilenet_v2", seed=1)
    name = "mobilenet_v2.layer.3.expand_1x1.convolution.weight"
    first = mobilenet_v2.get_parameter(name)
    assert torch.equal(first, again.get_parameter(name))
    assert not torch.equal(first, other.get_parameter(name))


def test_a_near_name_is_offered():
    with pytest.raises(UnknownNameError, match="did you mean 'distilbert'"):
        build_zoo_model("distillbert")

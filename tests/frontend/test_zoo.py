import pytest
import torch

from pock_tvm.cli.compile import compile_command
from pock_tvm.errors import UnknownNameError
from pock_tvm.frontend.zoo import ZOO, build_zoo_model, zoo_lines


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


@pytest.mark.parametrize("name", ZOO)
def test_every_model_says_what_it_is_and_what_is_small(name):
    assert zoo_lines()[name].endswith(".")
    assert "Small: " in ZOO[name].__doc__
    assert name in compile_command.help


@pytest.mark.parametrize("name", ZOO)
def test_small_forms_are_small_and_alive(name):
    module, examples = build_zoo_model(f"{name}@small")
    sizes = sum(p.numel() for p in module.parameters())
    assert sizes < 200_000
    generator = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(2, *x.shape[1:], generator=generator)
        if x.is_floating_point()
        else torch.randint(1, 60, (2, *x.shape[1:]), generator=generator)
        for x in examples
    ]
    with torch.no_grad():
        out = module.eval()(*inputs)
    logits = out if isinstance(out, torch.Tensor) else out.logits
    assert 0.05 < logits.std() < 20


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # The figures of the papers' tables, of MIT's mcunet, and of the checkpoints.
        ("mcunet", 0.64e6),
        ("mobilenet_v2", 3.5e6),
        ("mobilenet_v2_035", 1.68e6),
        ("resnet50", 25.6e6),
        ("efficientnet_lite0", 4.65e6),
        ("vit_tiny", 5.7e6),
        ("vit_base", 86.6e6),
        ("bert_base", 109.5e6),
        ("distilbert", 67e6),
        ("gpt2", 124.4e6),
        ("clip", 151.3e6),
    ],
)
def test_full_forms_have_the_published_size(name, parameters):
    with torch.device("meta"):  # shapes without values
        module, _ = build_zoo_model(name)
    assert sum(p.numel() for p in module.parameters()) == pytest.approx(parameters, rel=0.02)

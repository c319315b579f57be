"""FuseGradientReaders: which gradients become one kernel with all their readers."""

from math import prod

import pytest
import torch
from torch import nn

from pock_tvm.clipping import ClipTensorNorm
from pock_tvm.compilation.graphs import Graphs
from pock_tvm.compilation.inventory import parameters_of
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.losses import make_loss
from pock_tvm.optimizers import make_optimizer
from pock_tvm.update import learnable_names, parse_update, resolve

OPTIMIZERS = ["sgd", "sgd:weight_decay=0.1", "sgd:momentum=0.9,nesterov=true", "adamw", "lion"]


def net(groups=1):
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 1, groups=groups, bias=False),
        nn.BatchNorm2d(16),
        nn.Flatten(),
        nn.Linear(16 * 64, 4),
    ).eval()


def train_step(module=None, optimizer="sgd", update="full", **options):
    module = module or net()
    model = import_module(module, (torch.zeros(1, 3, 16, 16),), batch=2, name="net")
    parameters = parameters_of(model)
    scheme = parse_update(update, learnable_names(parameters))
    chosen = resolve(scheme, parameters, model.parameters)
    parts = make_loss("cross_entropy"), make_optimizer(optimizer)
    graphs = Graphs.build(model, *parts, chosen, "frozen", **options)
    return next(s.step for s in graphs.steps if s.step.name == "train_step")


def gradients_read(step):
    """Return the weights whose update reads a tensor of the step that is as large as they are."""
    found = []
    for call in step.calls:
        for name in set(call.writes) & {n for n, t in step.tensors.items() if t.region == "state"}:
            shape = step.tensors[name].shape
            sizes = [prod(step.tensors[r].shape) for r in call.reads if step.in_arena(r)]
            if len(shape) > 1 and prod(shape) in sizes and not name.startswith("optimizer."):
                found.append(name)
    return found


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_gradient_of_a_weight_with_a_scale_exists(optimizer):
    assert gradients_read(train_step(optimizer=optimizer)) == []
    apart = train_step(optimizer=optimizer, fuses_gradients=False)
    assert gradients_read(apart) == ["3.weight", "0.weight"]


def test_a_gradient_of_several_parts_is_added_up_in_the_last():
    step = train_step(micro_batches=2)
    assert all(len(call.writes) > 1 for call in step.calls if "0.weight" in call.writes)


@pytest.mark.parametrize(
    "options",
    [
        {"clipping": ClipTensorNorm(1.0)},
        {"module": net(groups=4)},
        {"keep_gradients": True},
    ],
    ids=["its norm is taken", "grouped", "it is returned"],
)
def test_a_gradient_that_others_read_is_kept(options):
    step = train_step(**options)
    (update,) = [call for call in step.calls if "3.weight" in call.writes]
    assert "sum" not in update.kernel


def test_constants_are_handed_in():
    step = train_step(accumulate=4)
    (update,) = [call for call in step.calls if "3.weight" in call.writes]
    assert "conv2d_weight_grad" in update.kernel
    assert any(name.startswith("constant.") for name in update.reads)


def test_one_reader_is_left_to_fuse_ops():
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 196, 4))
    kernels = [c.kernel for c in train_step(module.eval()).calls if "0.weight" in c.writes]
    assert kernels == [k for k in kernels if "sum" not in k]

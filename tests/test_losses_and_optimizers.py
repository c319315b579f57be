"""Descriptions; that the graphs do what they describe is shown by the tests of the passes."""

import json

import pytest

from pock_tvm import PockError
from pock_tvm.losses import CrossEntropy, describe_loss, make_loss
from pock_tvm.optimizers import SGD, AdamW, describe_optimizer, make_optimizer


def test_losses_by_name():
    assert make_loss("cross_entropy", label_smoothing=0.1) == CrossEntropy(label_smoothing=0.1)
    assert json.loads(json.dumps(describe_loss(make_loss("mse")))) == {"name": "mse"}
    assert describe_loss(CrossEntropy())["ignore_index"] == -100


def test_optimizers_by_name():
    assert make_optimizer("sgd", momentum=0.9) == SGD(momentum=0.9)
    assert describe_optimizer(AdamW())["beta2"] == 0.999


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [(SGD(), ()), (SGD(momentum=0.9), ("momentum",)), (AdamW(), ("moment1", "moment2"))],
)
def test_slots(optimizer, slots):
    assert tuple(optimizer.slots_of((3, 4))) == slots


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_loss("hinge"), "unknown loss 'hinge'; known are cross_entropy, bce, mse"),
        (
            lambda: make_loss("mse", label_smoothing=0.1),
            "has no option 'label_smoothing'; it has none",
        ),
        (lambda: CrossEntropy(label_smoothing=1.0), "must be in"),
        (lambda: make_optimizer("adagrad"), "unknown optimizer 'adagrad'; known are sgd, adam,"),
        (lambda: make_optimizer("sgd", beta1=0.9), "has no option 'beta1'; it has weight_decay"),
        (lambda: SGD(nesterov=True), "needs a momentum above 0"),
        (lambda: SGD(momentum=1.0), "momentum is 1.0; it must be in"),
        (lambda: make_optimizer("adam:beta1=1"), "they must be in"),
        (lambda: make_optimizer("adam:eps=0"), "eps is 0.0; it must be above 0"),
        (lambda: make_optimizer("rmsprop:alpha=2"), "alpha is 2.0; it must be in"),
        (lambda: make_optimizer("adafactor:clip_threshold=0"), "it must be > 0"),
        (lambda: make_optimizer("lion:weight-decay=-1"), "weight_decay is -1.0; it must be ≥ 0"),
        (lambda: make_loss("huber:delta=0"), "delta is 0.0; it must be above 0"),
        (lambda: make_loss("smooth_l1:beta=0"), "it must be above 0"),
        (lambda: make_loss("bce:pos_weight=-1"), "it must be above 0"),
        (lambda: make_loss("distillation:weight=0"), "it must be in"),
        (lambda: make_loss("cross_entropy:ignore_index=x"), "is 'x', not a whole number"),
    ],
)
def test_bad_descriptions(make, message):
    with pytest.raises(PockError, match=message):
        make()

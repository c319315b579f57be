"""Which activations a step keeps for its backward pass, read off ``plan.json``."""

import json


def kept_for(directory, parameter):
    """Return the bytes of the activation that the gradient of a convolution's weight is made from.

    The kernel that makes the gradient is the one that the optimizer's step of ``parameter`` has
    been fused into; what it reads of the forward pass was there before the loss.
    """
    plan = json.loads((directory / "plan.json").read_text())["train_step"]
    tensors = {t["name"]: t for t in plan["tensors"]}
    loss = next(i for i, call in enumerate(plan["calls"]) if "loss" in call["writes"])
    updates = [
        call
        for call in plan["calls"]
        if "weight_grad" in call["kernel"]
        and any(n.endswith((parameter, f"{parameter}[channels]")) for n in call["writes"])
    ]
    assert len(updates) == 1, parameter
    kept = [
        tensors[name]
        for name in updates[0]["reads"]
        if tensors[name]["region"] == "arena" and tensors[name]["live"][0] < loss
    ]
    kept = [t for t in kept if t["name"] != "learning_rate"]
    assert len(kept) == 1, kept
    return kept[0]["bytes"]


def live_across_the_loss(directory):
    """Return the bytes of all that a step keeps from its forward to its backward pass, by name."""
    plan = json.loads((directory / "plan.json").read_text())["train_step"]
    loss = next(i for i, call in enumerate(plan["calls"]) if "loss" in call["writes"])
    return {
        t["name"]: t["bytes"]
        for t in plan["tensors"]
        if t["region"] == "arena" and t["live"][0] < loss < t["live"][1]
    }

"""Low-rank adaptation: ten steps with PyTorch, all three entry points, and the way back out."""

import numpy as np
import pytest
import small_transformer
import sparse_net
import torch
from safetensors.torch import load_file
from torch.func import functional_call

import pock_tvm
from pock_tvm import Trainer
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.optimizers import SGD, AdamW
from pock_tvm.update import LoRA, Rule, UpdateScheme

RATE, RANK, ALPHA = 0.02, 4, 8
TRANSFORMER = UpdateScheme(
    name="qkv",
    trainable=("classifier.*",),
    rules=(Rule(what=("bias",), match=("block.*",)),),
    lora=(LoRA(rank=RANK, alpha=ALPHA, targets=("attention", "first_ffn"), seed=3),),
)
CNN = UpdateScheme(
    name="pointwise",
    trainable=("classifier.*",),
    lora=(LoRA(rank=RANK, alpha=ALPHA, targets=("first_conv",), blocks="last 2"),),
)


def tokens_and_labels():
    rng = np.random.default_rng(0)
    shape = (small_transformer.BATCH, small_transformer.TOKENS)
    tokens = rng.integers(0, small_transformer.VOCABULARY, shape).astype("int32")
    return tokens, rng.integers(0, small_transformer.CLASSES, shape[:1]).astype("int32")


def pictures_and_labels():
    rng = np.random.default_rng(0)
    pictures = rng.standard_normal((sparse_net.BATCH, 3, 16, 16)).astype("float32")
    return pictures, rng.integers(0, sparse_net.CLASSES, sparse_net.BATCH).astype("int32")


class Reference:
    """PyTorch's side: W + alpha / rank · (A @ B) as [out, in], A and B as the artifact has them."""

    def __init__(self, module, trainer, make_optimizer):
        self.module = module
        named = dict(module.named_parameters())
        self.learned, self.factors = {}, {}
        for name, done in trainer.description.update["tensors"].items():
            if done["kind"] == "lora":
                pair = [trainer.tensor(done[f]) for f in ("a", "b")]
                self.factors[name] = tuple(torch.nn.Parameter(torch.tensor(f)) for f in pair)
            else:
                self.learned[name] = torch.nn.Parameter(named[name].detach().clone())
        pairs = [f for pair in self.factors.values() for f in pair]
        self.optimizer = make_optimizer([*self.learned.values(), *pairs])

    def weights(self):
        frozen = dict(self.module.named_parameters())
        weights = dict(self.learned)
        for name, (a, b) in self.factors.items():
            w = frozen[name].detach()
            weights[name] = w + (ALPHA / RANK * (a @ b).T).reshape(w.shape)
        return weights

    def logits(self, inputs):
        inputs = torch.tensor(inputs)
        inputs = inputs.long() if inputs.dtype == torch.int32 else inputs
        return functional_call(self.module, self.weights(), (inputs,))

    def step(self, inputs, labels):
        loss = torch.nn.functional.cross_entropy(self.logits(inputs), torch.tensor(labels).long())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


@pytest.mark.parametrize(
    ("net", "scheme", "batch", "targets"),
    [
        (
            small_transformer,
            TRANSFORMER,
            tokens_and_labels,
            [f"block.{n}.weight" for n in ("query", "key", "value", "up")],
        ),
        (
            sparse_net,
            CNN,
            pictures_and_labels,
            [f"layer.{i}.expand.weight" for i in (1, 2)],
        ),
    ],
    ids=["transformer", "cnn"],
)
def test_ten_steps_follow_pytorch_and_come_out_merged(tmp_path, net, scheme, batch, targets):
    module, example = net.build()
    module.eval()
    model = import_module(module, example, net.BATCH, "net")
    is_cnn = net is sparse_net
    optimizer = AdamW() if is_cnn else SGD(momentum=0.9)
    pock_tvm.compile(model, tmp_path / "net", update=scheme, optimizer=optimizer)
    inputs, labels = batch()
    with torch.no_grad():
        example = torch.tensor(inputs)
        before = module(example if is_cnn else example.long()).numpy()
    with Trainer(tmp_path / "net", threads=2) as trainer:
        adapted = [n for n, d in trainer.description.update["tensors"].items() if "rank" in d]
        assert adapted == targets
        for name in targets:  # before the first step the model computes what it did
            a = trainer.tensor(f"{name}.lora_A")
            bound = len(a) ** -0.5
            assert 0 < np.abs(a).max() <= bound
            assert not trainer.tensor(f"{name}.lora_B").any()
        np.testing.assert_allclose(trainer.predict(inputs), before, rtol=1e-5, atol=1e-6)
        make = (
            (lambda p: torch.optim.AdamW(p, RATE))
            if is_cnn
            else (lambda p: torch.optim.SGD(p, RATE, 0.9))
        )
        reference = Reference(module, trainer, make)
        for _ in range(10):
            wanted = reference.step(inputs, labels)
            assert trainer.step(inputs, labels, RATE) == pytest.approx(wanted, rel=1e-4)
        for name in targets:
            learned = zip(("A", "B"), reference.factors[name], strict=True)
            for letter, factor in learned:
                got = trainer.tensor(f"{name}.lora_{letter}")
                wanted = factor.detach().numpy()
                assert np.linalg.norm(got - wanted) <= 1e-3 * np.linalg.norm(wanted)
            # The weight itself stays as it was, to the bit.
            np.testing.assert_array_equal(
                trainer.tensor(name), dict(module.named_parameters())[name].detach().numpy()
            )
        after = trainer.predict(inputs)
        np.testing.assert_allclose(after, reference.logits(inputs).detach(), rtol=1e-3, atol=1e-4)
        trainer.export(tmp_path / "net.safetensors")
    exported = load_file(tmp_path / "net.safetensors")
    assert not [name for name in exported if "lora" in name]
    module.load_state_dict(exported, strict=False)
    assert not set(dict(module.named_parameters())) - set(exported)
    with torch.no_grad():
        again = module(example if is_cnn else example.long()).numpy()
    np.testing.assert_allclose(again, after, rtol=1e-5, atol=1e-5)

"""Embeddings in the rows that a batch has read, as torch.optim.SparseAdam; chosen explicitly."""

import json

import numpy as np
import pytest
import small_transformer
import torch

import pock_tvm
from pock_tvm import PockError, Trainer
from pock_tvm.frontend.torch_export import import_module
from pock_tvm.optimizers import AdamW
from pock_tvm.update import UpdateScheme

RATE = 0.01
WORDS = "words.weight"
VOCABULARY = small_transformer.VOCABULARY


def compiled(folder, **options):
    module, inputs = small_transformer.build()
    module.words = torch.nn.Embedding.from_pretrained(
        module.words.weight, freeze=False, sparse=True
    )
    model = import_module(module, inputs, small_transformer.BATCH, "net")
    scheme = UpdateScheme(name="words", trainable=(WORDS, "classifier.*"), **options)
    pock_tvm.compile(model, folder, update=scheme, optimizer=AdamW(weight_decay=0.0))
    return module


def test_steps_follow_sparse_adam(tmp_path):
    module = compiled(tmp_path / "net", embeddings="lazy-rows")
    named = dict(module.named_parameters())
    first = named[WORDS].detach().numpy().copy()
    sparse = torch.optim.SparseAdam([named[WORDS]], RATE)
    dense = torch.optim.AdamW(module.classifier.parameters(), RATE, weight_decay=0.0)
    rng = np.random.default_rng(0)
    read = set()
    with Trainer(tmp_path / "net", threads=2) as trainer:
        assert trainer.description.update["tensors"][WORDS] == {"kind": "rows"}
        for low in (0, 5, 0):  # the rows of the first step rest in the second
            shape = (small_transformer.BATCH, small_transformer.TOKENS)
            tokens = rng.integers(low, low + 8, shape).astype("int32")
            labels = rng.integers(0, small_transformer.CLASSES, shape[:1]).astype("int32")
            read |= set(tokens.reshape(-1).tolist())
            loss = torch.nn.functional.cross_entropy(
                module(torch.tensor(tokens).long()), torch.tensor(labels).long()
            )
            for optimizer in (sparse, dense):
                optimizer.zero_grad()
            loss.backward()
            for optimizer in (sparse, dense):
                optimizer.step()
            assert trainer.step(tokens, labels, RATE) == pytest.approx(loss.item(), rel=1e-5)
        got, wanted = trainer.tensor(WORDS), named[WORDS].detach().numpy()
        # Adam blows the rounding of a gradient near zero up to a part of a step, so the whole
        # change is compared; moments that decay in rows at rest would change half of it.
        assert np.linalg.norm(got - wanted) <= 1e-2 * np.linalg.norm(wanted - first)
        rest = sorted(set(range(VOCABULARY)) - read)
        assert got[rest].tobytes() == first[rest].tobytes()
        for slot in ("moment1", "moment2"):
            state = trainer.tensor(f"optimizer.{slot}.{WORDS}")
            assert state.shape == got.shape
            assert not state[rest].any()
            assert state[sorted(read)].any()


def test_no_gradient_of_the_size_of_the_table_is_made(tmp_path):
    """The dense form, which is the default, makes one."""
    made = {}
    for embeddings in ("exact", "lazy-rows"):
        compiled(tmp_path / embeddings, embeddings=embeddings)
        plan = json.loads((tmp_path / embeddings / "plan.json").read_text())["train_step"]
        arena = [t for t in plan["tensors"] if t["region"] == "arena"]
        made[embeddings] = [t["name"] for t in arena if t["bytes"] == 4 * VOCABULARY * 32]
    assert made["exact"]
    assert not made["lazy-rows"]


def test_a_tied_table_is_refused(tmp_path):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words = torch.nn.Embedding(9, 4)
            self.head = torch.nn.Linear(4, 9, bias=False)
            self.head.weight = self.words.weight

        def forward(self, ids):
            return self.head(self.words(ids).mean(1))

    model = import_module(Tied(), (torch.zeros(1, 3, dtype=torch.int64),), 2, "tied")
    scheme = UpdateScheme(name="lazy", trainable=("*",), embeddings="lazy-rows")
    with pytest.raises(PockError, match=r"lazy-rows on words.weight: .*more than one look-up"):
        pock_tvm.compile(model, tmp_path / "net", update=scheme, optimizer="adamw")
    assert not (tmp_path / "net").exists()


def test_accumulation_is_refused(tmp_path):
    module, inputs = small_transformer.build()
    model = import_module(module, inputs, small_transformer.BATCH, "net")
    scheme = UpdateScheme(name="lazy", trainable=(WORDS,), embeddings="lazy-rows")
    with pytest.raises(PockError, match=r"lazy-rows on words.weight cannot be accumulated"):
        pock_tvm.compile(model, tmp_path / "net", update=scheme, accumulate=2)
    assert not (tmp_path / "net").exists()

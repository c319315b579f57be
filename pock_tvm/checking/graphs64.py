"""The float64 graphs of a check: the loss alone, its gradients, and one whole step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax
from tvm.ir.transform import Sequential

from pock_tvm.checking.float64 import Function, in_float64, values_for, widened
from pock_tvm.checking.scheme import factors_of
from pock_tvm.clipping import Clipping
from pock_tvm.compilation.lora_factors import with_factors
from pock_tvm.frontend import ImportedModel
from pock_tvm.losses import Distillation, Loss
from pock_tvm.optimizers import SGD, Optimizer
from pock_tvm.relay_passes import pipeline
from pock_tvm.relay_passes.append_loss import AppendLoss
from pock_tvm.relay_passes.append_optimizer import LEARNING_RATE
from pock_tvm.relay_passes.append_teacher import AppendTeacher
from pock_tvm.relay_passes.decompose_batch_norm import DecomposeBatchNorm, Statistics
from pock_tvm.relay_passes.eliminate_dropout import EliminateDropout
from pock_tvm.relay_passes.index_limits import index_limits
from pock_tvm.relay_passes.insert_lora import Factors, InsertLora
from pock_tvm.relay_passes.slice_channels import StoredSlice
from pock_tvm.update import Update, lora_names


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to compile, besides the model."""

    loss: Loss
    optimizer: Optimizer
    update: Update
    batch_norm: Statistics
    clipping: Clipping | None = None
    dropout: bool = False


class Graphs64:
    """A model in float64, and what training makes of it before anything is lowered for a machine.

    ``loss`` is the imported graph with the loss behind it: no layout is changed, no constant
    folded, nothing derived. ``gradients`` and ``step`` come out of the passes of the pipeline.

    With dropout ``loss`` is the canonical graph: which elements are dropped goes by their place in
    the layout that is compiled.
    """

    def __init__(self, model: ImportedModel, settings: Settings) -> None:
        wide = in_float64(with_factors(model, settings.update))
        self.parameters = wide.parameters
        self._settings = settings
        update = settings.update
        learns = {*update.whole, *update.channels, *factors_of(update)}
        self.trainable = tuple(name for name in wide.parameters if name in learns)
        self._lora = {
            weight: Factors(*lora_names(weight), adaptation.lora.scale)
            for weight, adaptation in update.lora.items()
        }
        self.moving = tuple(sorted(model.buffers)) if settings.batch_norm == "train" else ()
        known = {n: wide.parameters[n] for n in model.buffers if n not in self.moving}
        self._predicting = pipeline.canonicalize("frozen", known, lora=self._lora)(wide.mod)
        self._training = self._predicting
        if self.moving or settings.dropout:
            form = pipeline.canonicalize(
                settings.batch_norm, known, dropout=settings.dropout, lora=self._lora
            )
            self._training = form(wide.mod)
        found = (self._predicting["main"].attrs or {}).get("stored_axes", {})
        self.axes = {str(n): tuple(int(a) for a in axes) for n, axes in found.items()}
        self.limits = index_limits(self._predicting)
        self.classes = int(self._predicting["main"].ret_ty.shape[-1])
        self.raw = self._raw(wide)

    def loss(self) -> Function:
        """Compile the loss; ``loss_values`` and ``as_in_loss`` say what it takes."""
        if self._settings.dropout:
            return Function(self._with_loss(self._training, self._predicting))
        return Function(self.raw, imported=True)

    def loss_values(
        self, function: Function, samples: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Return what the loss takes."""
        return self._given(function, samples, self.axes if self._settings.dropout else {})

    def as_in_loss(self, name: str, value: np.ndarray) -> np.ndarray:
        """Bring a tensor from the model's own layout to the one that the loss takes."""
        stored = self._settings.dropout and name in self.axes
        return value.transpose(self.axes[name]) if stored else value

    def gradients(self) -> Function:
        """Compile the gradients of all tensors that learn, whole ones even of a share."""
        joint = self._joint(SGD(), {}, None, keep_gradients=True)
        return Function(joint)

    def step(self) -> Function:
        """Compile one step as it was asked for."""
        slices = {
            name: StoredSlice(
                self.axes[name].index(s.axis) if name in self.axes else s.axis, s.channels
            )
            for name, s in self._settings.update.channels.items()
        }
        tables = self._settings.update.lazy_rows
        optimizer, clipping = self._settings.optimizer, self._settings.clipping
        return Function(self._joint(optimizer, slices, clipping, tables))

    def values(
        self, function: Function, samples: Mapping[str, np.ndarray], rate: float
    ) -> dict[str, np.ndarray]:
        """Return what a graph of the pipeline takes."""
        return {**self._given(function, samples, self.axes), LEARNING_RATE: np.array(rate)}

    def original(self, name: str, stored: np.ndarray) -> np.ndarray:
        """Return a tensor in the model's own layout."""
        return stored.transpose(np.argsort(self.axes[name])) if name in self.axes else stored

    def _joint(
        self,
        optimizer: Optimizer,
        slices: Mapping[str, StoredSlice],
        clipping: Clipping | None,
        tables: Sequence[str] = (),
        *,
        keep_gradients: bool = False,
    ) -> tvm.IRModule:
        teacher = None
        if isinstance(self._settings.loss, Distillation):
            teacher = (self._predicting, (*self.trainable, *self.moving))
        return pipeline.train(
            self._settings.loss,
            optimizer,
            self.trainable,
            slices,
            tables,
            teacher=teacher,
            clipping=clipping,
            keep_gradients=keep_gradients,
        )(self._training)

    def _raw(self, wide: ImportedModel) -> tvm.IRModule:
        def decomposed(statistics: Statistics) -> tvm.IRModule:
            return Sequential(
                [DecomposeBatchNorm(statistics), EliminateDropout(), InsertLora(self._lora)]
            )(wide.mod)

        return self._with_loss(decomposed(self._settings.batch_norm), decomposed("frozen"))

    def _with_loss(self, learning: tvm.IRModule, teacher: tvm.IRModule) -> tvm.IRModule:
        passes = [AppendLoss(self._settings.loss), relax.transform.DeadCodeElimination(["main"])]
        if isinstance(self._settings.loss, Distillation):
            passes.insert(0, AppendTeacher(teacher, (*self.trainable, *self.moving)))
        return Sequential(passes)(learning)

    def _given(
        self,
        function: Function,
        samples: Mapping[str, np.ndarray],
        axes: Mapping[str, tuple[int, ...]],
    ) -> dict[str, np.ndarray]:
        wide = {name: widened(value) for name, value in samples.items()}
        return values_for(self.parameters, wide, list(function.parameters), axes)

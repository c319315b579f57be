"""The entry points of an artifact as lowered graphs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import tvm

from pock_tvm.clipping import Clipping
from pock_tvm.compilation.winograd import transformed_weights
from pock_tvm.frontend import ImportedModel
from pock_tvm.losses import Distillation, Loss
from pock_tvm.optimizers import Optimizer
from pock_tvm.relay_passes import pipeline
from pock_tvm.relay_passes.append_teacher import teacher_name
from pock_tvm.relay_passes.decompose_batch_norm import Statistics
from pock_tvm.relay_passes.extract_step import ExtractedStep, extract_step
from pock_tvm.relay_passes.fuse_attention import Attention, attention_places
from pock_tvm.relay_passes.index_limits import index_limits
from pock_tvm.relay_passes.insert_lora import Factors
from pock_tvm.relay_passes.quantize_frozen import Frozen
from pock_tvm.relay_passes.slice_channels import StoredSlice
from pock_tvm.relay_passes.step import Region
from pock_tvm.targets import TargetSpec
from pock_tvm.update import ChannelSlice, Update, lora_names


@dataclass
class InCommon:
    """What all update schemes of one model share, made once where many of them are planned.

    Neither the canonical model nor what predicts and evaluates depends on what learns, unless
    low-rank factors are inserted or a teacher is.
    """

    canonical: tvm.IRModule | None = None
    lowered: dict[tuple[str, int, frozenset[str]], tvm.IRModule] = field(default_factory=dict)
    """By entry point, parts of its prefix, and transformed weights."""


@dataclass(frozen=True)
class Form:
    """An entry point before it is lowered."""

    name: str
    mod: tvm.IRModule
    outputs: tuple[str, ...]
    changing: tuple[str, ...] = ()
    """The parameters that it changes."""
    common: InCommon | None = None
    """Of an entry point that is the same for all schemes."""
    fuses_gradients: bool = False
    """Whether a weight gradient and all its readers are to be one kernel."""

    def lowered(
        self,
        regions: Mapping[str, Region],
        samples: tuple[str, ...] = (),
        parts: int = 1,
        transformed: Mapping[str, np.ndarray] | None = None,
    ) -> ExtractedStep:
        """Return the entry point as calls of kernels.

        Args:
            regions: of the parameters that are no inputs.
            samples: the inputs that hold a row per sample.
            parts: in how many the frozen prefix takes its samples.
            transformed: weights that are read as Winograd's tiles multiply them.
        """
        known = self.common.lowered if self.common else {}
        key = self.name, parts, frozenset(transformed or ())
        mod = known.get(key)
        if mod is None:
            mod = pipeline.lower(
                samples,
                self.changing,
                parts,
                transformed,
                fuse_gradient_readers=self.fuses_gradients,
            )(self.mod)
            known[key] = mod
        return extract_step(mod, self.name, regions, self.outputs)


@dataclass(frozen=True)
class Graphs:
    """The entry points, lowered, and the tensors that they share."""

    steps: list[ExtractedStep]
    forms: tuple[Form, ...]
    regions: Mapping[str, Region]
    samples: tuple[str, ...]
    """The inputs of the model, each with a row per sample."""
    trainable: tuple[str, ...]
    statistics: tuple[str, ...]
    slots: tuple[str, ...]
    axes: Mapping[str, tuple[int, ...]]
    limits: Mapping[str, int]
    values: dict[str, np.ndarray]
    unclipped: Form | None
    """``train_step`` without clipping, where there is some: what it costs is the difference."""
    quantized: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Frozen parameters of which the steps read 8-bit integers alone, as the model has them."""
    panels: Mapping[str, int] = field(default_factory=dict)
    """Columns of a panel, of the weights that are stored as panels."""
    originals: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Frozen parameters of which the steps read Winograd's transforms alone."""
    transformed: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Those transforms."""
    attention: tuple[int, int] = (0, 0)
    """How often ``train_step`` has attention in tiles, and how often written out."""
    parts: Mapping[str, int] = field(default_factory=dict)
    """In how many parts the frozen prefix of an entry point takes its samples, where in several."""
    micro_batches: int = 1
    """In how many parts ``train_step`` takes its samples, prefix and all."""

    @classmethod
    def build(
        cls,
        model: ImportedModel,
        loss: Loss,
        optimizer: Optimizer,
        update: Update,
        batch_norm: Statistics,
        *,
        clipping: Clipping | None = None,
        keep_gradients: bool = False,
        dropout: bool = False,
        accumulate: int = 1,
        micro_batches: int = 1,
        attention: Attention = "full",
        frozen: Frozen = "float32",
        winograd: TargetSpec | None = None,
        fuses_gradients: bool = True,
        common: InCommon | None = None,
    ) -> "Graphs":
        """Derive, optimize and lower ``train_step``, ``evaluate`` and ``predict`` of a model.

        ``winograd`` is the machine for which frozen convolutions are worth a transform, or None
        for none. ``fuses_gradients`` says that the target's schedules take a weight gradient and
        all its readers as one kernel: a processor's do. ``common`` is of the same model, loss and
        kind of batch norm; what it lacks is put there.
        """
        if update.lora or isinstance(loss, Distillation) or frozen == "int8":
            common = None
        factors = [name for weight in update.lora for name in lora_names(weight)]
        learns = {*update.whole, *update.channels, *factors}
        trainable = [name for name in model.parameters if name in learns]
        lora = {
            weight: Factors(*lora_names(weight), adaptation.lora.scale)
            for weight, adaptation in update.lora.items()
        }
        moving = sorted(model.buffers) if batch_norm == "train" else []
        known = {n: model.parameters[n] for n in model.buffers if n not in moving}
        # What decides a mask may not learn, in any scheme: the canonical model serves them all.
        learnable = [name for name in model.parameters if name not in known]
        tiled = learnable if attention == "flash" else None
        frozen_form = common.canonical if common else None
        if frozen_form is None:
            form = pipeline.canonicalize("frozen", known, lora=lora, attention=tiled)
            frozen_form = form(model.mod)
        if common:
            common.canonical = frozen_form
        train_form = frozen_form
        if moving or dropout:
            form = pipeline.canonicalize(
                batch_norm, known, dropout=dropout, lora=lora, attention=tiled
            )
            train_form = form(model.mod)
        changing = (*trainable, *moving)
        axes = {
            str(name): tuple(int(a) for a in value)
            for name, value in frozen_form["main"].attrs.get("stored_axes", {}).items()
        }
        slices = {
            name: _as_stored(chosen, axes.get(name)) for name, chosen in update.channels.items()
        }

        values = {
            name: np.ascontiguousarray(value.transpose(axes[name]) if name in axes else value)
            for name, value in model.parameters.items()
        }
        floats = _parameter_names(frozen_form)
        if frozen == "int8":
            # An export merges factors into the weight that they adapt: it stays as it is.
            alone = {n: v for n, v in values.items() if n not in update.lora}
            quantize = pipeline.quantize(alone, changing)
            frozen_form, train_form = quantize(frozen_form), quantize(train_form)
        teacher = (frozen_form, changing) if isinstance(loss, Distillation) else None

        inputs = [p.name for p in model.mod["main"].params]
        samples = tuple(name for name in inputs if name not in model.parameters)

        def joint_graph(clipping: Clipping | None) -> tvm.IRModule:
            return pipeline.train(
                loss,
                optimizer,
                trainable,
                slices,
                update.lazy_rows,
                teacher=teacher,
                clipping=clipping,
                accumulate=accumulate > 1,
                keep_gradients=keep_gradients,
                micro_batches=(samples, micro_batches),
            )(train_form)

        joint = joint_graph(clipping)
        updates = [str(n) for n in joint["main"].attrs["updates"]]
        partial = None
        if accumulate > 1:
            partial = pipeline.accumulate(loss, trainable, slices, teacher=teacher)(train_form)
            more = [str(n) for n in partial["main"].attrs["updates"]]
            updates = list(dict.fromkeys([*updates, *more]))
        slots = tuple(n for n in updates if n not in model.parameters)
        regions: dict[str, Region] = dict.fromkeys(model.parameters, "frozen")
        regions.update(dict.fromkeys((*changing, *slots), "state"))
        copies = {teacher_name(n): n for n in changing} if teacher else {}
        regions.update(dict.fromkeys(copies, "frozen"))
        learning = pipeline.learning_names(trainable, slices, update.lazy_rows)
        gradients = tuple(f"gradient.{n}" for n in learning) if keep_gradients else ()
        measures = ("loss", "correct") if loss.counts else ("loss",)
        writes = tuple(n for n, region in regions.items() if region == "state")

        def train_step(joint: tvm.IRModule) -> Form:
            outputs = ("loss", *gradients)
            return Form("train_step", joint, outputs, writes, fuses_gradients=fuses_gradients)

        forms = [
            train_step(joint),
            Form(
                "evaluate", pipeline.evaluate(loss, teacher)(frozen_form), measures, common=common
            ),
            Form("predict", frozen_form, ("logits",), common=common),
        ]
        if partial is not None:
            forms.append(Form("accumulate", partial, ("loss",), writes))
        transformed: dict[str, np.ndarray] = {}
        if winograd is not None:
            # An export merges factors into the weight that they adapt.
            still = {n: v for n, v in values.items() if n not in {*changing, *update.lora}}
            transformed = transformed_weights([form.mod for form in forms], still, winograd)
        lowered = [form.lowered(regions, transformed=transformed) for form in forms]
        steps, constants = _share_constants(lowered)
        read = {name for one in steps for name in one.step.tensors}
        gone = floats - _parameter_names(frozen_form) - read
        quantized = {n: v for n, v in model.parameters.items() if n in gone}
        originals = {n: model.parameters[n] for n in transformed}
        values = {n: v for n, v in values.items() if n not in {**quantized, **originals}}
        values |= {copy: values[name] for copy, name in copies.items()}
        return cls(
            steps=steps,
            forms=tuple(forms),
            regions=regions,
            samples=samples,
            trainable=tuple(trainable),
            statistics=tuple(moving),
            slots=slots,
            axes=axes,
            limits=index_limits(frozen_form),
            values={**values, **constants},
            unclipped=train_step(joint_graph(None)) if clipping else None,
            micro_batches=micro_batches,
            quantized=quantized,
            originals=originals,
            transformed=transformed,
            attention=attention_places(train_form),
        )

    def lower(self, form: Form) -> ExtractedStep:
        """Return an entry point as calls of kernels, its prefix in its parts."""
        parts = self.parts.get(form.name, 1)
        return form.lowered(self.regions, self.samples, parts, self.transformed)

    def split(self, parts: Mapping[str, int]) -> "Graphs":
        """Return the same graphs with frozen prefixes in parts, by name of the entry point."""
        split = replace(self, parts=parts)
        steps, constants = _share_constants([split.lower(form) for form in self.forms])
        weights = {n: v for n, v in self.values.items() if n in self.regions}  # no old constants
        return replace(split, steps=steps, values={**weights, **constants})


def _parameter_names(mod: tvm.IRModule) -> set[str]:
    return {str(p.name) for p in mod["main"].params}


def _as_stored(chosen: ChannelSlice, axes: tuple[int, ...] | None) -> StoredSlice:
    """Return a slice of a parameter in the layout that it is stored in."""
    axis = chosen.axis if axes is None else axes.index(chosen.axis)
    return StoredSlice(axis, chosen.channels)


def _share_constants(
    steps: list[ExtractedStep],
) -> tuple[list[ExtractedStep], dict[str, np.ndarray]]:
    """Give equal constants of the entry points one name."""
    shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    values: dict[str, np.ndarray] = {}
    out = []
    for one in steps:
        names = {}
        for name, value in one.constants.items():
            key = (str(value.dtype), value.shape, value.tobytes())
            if key not in shared:
                shared[key] = f"constant.{len(shared)}"
                values[shared[key]] = value
            names[name] = shared[key]
        out.append(replace(one, step=one.step.renamed(names)))
    return out, values

"""The passes in order, phase by phase.

canonicalize   imported model -> channels-last, constants folded, views merged, weights as stored
train          forward -> loss -> gradients -> updates: the joint graph
evaluate       forward -> loss and the number of samples predicted right
lower          operators -> fused TIR kernels that ``call_tir`` binds together

Ordering, placement and emission follow on plain data: ``extract_step``, ``reorder_for_memory``,
``rematerialize``, ``plan_arena``, ``emit_entry_point``, ``build_object``.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tvm
from tvm import relax
from tvm.ir.transform import Pass, Sequential

from pock_tvm.clipping import Clipping
from pock_tvm.losses import Loss
from pock_tvm.optimizers import Optimizer
from pock_tvm.relay_passes.accumulate_gradients import AccumulateGradients
from pock_tvm.relay_passes.append_loss import AppendLoss
from pock_tvm.relay_passes.append_optimizer import AppendOptimizer
from pock_tvm.relay_passes.append_teacher import AppendTeacher
from pock_tvm.relay_passes.canonicalize_indices import CanonicalizeIndices
from pock_tvm.relay_passes.convert_to_channels_last import ConvertToChannelsLast
from pock_tvm.relay_passes.decompose_batch_norm import DecomposeBatchNorm, Statistics
from pock_tvm.relay_passes.decompose_layers import DecomposeLayers
from pock_tvm.relay_passes.decompose_resize2d import DecomposeResize2d
from pock_tvm.relay_passes.derive_backward import DeriveBackward
from pock_tvm.relay_passes.drop_unread_rows import DropUnreadRows
from pock_tvm.relay_passes.eliminate_dropout import EliminateDropout
from pock_tvm.relay_passes.fold_constants import FoldConstants
from pock_tvm.relay_passes.fold_empty_tensors import FoldEmptyTensors
from pock_tvm.relay_passes.fold_pad_into_conv2d import FoldPadIntoConv2d
from pock_tvm.relay_passes.fold_scale_into_conv2d import FoldScaleIntoConv2d
from pock_tvm.relay_passes.fuse_attention import FuseAttention
from pock_tvm.relay_passes.fuse_gradient_readers import FuseGradientReaders
from pock_tvm.relay_passes.fuse_transpose_into_matmul import FuseTransposeIntoMatmul
from pock_tvm.relay_passes.gradient_transforms import clipping_transform
from pock_tvm.relay_passes.group_micro_batches import GroupMicroBatches
from pock_tvm.relay_passes.hoist_parameter_layout import HoistParameterLayout
from pock_tvm.relay_passes.insert_lora import Factors, InsertLora
from pock_tvm.relay_passes.keep_pool_taps import KeepPoolTaps
from pock_tvm.relay_passes.lower_volumes_to_pictures import LowerVolumesToPictures
from pock_tvm.relay_passes.operators import LOWERINGS
from pock_tvm.relay_passes.pack_masks import PackMasks
from pock_tvm.relay_passes.quantize_frozen import QuantizeFrozen
from pock_tvm.relay_passes.recompute_elementwise import RecomputeElementwise
from pock_tvm.relay_passes.seed_dropout import SeedDropout
from pock_tvm.relay_passes.simplify_shapes import SimplifyShapes
from pock_tvm.relay_passes.slice_channels import SliceChannels, StoredSlice, slice_name
from pock_tvm.relay_passes.slice_touched_rows import SliceTouchedRows, rows_name
from pock_tvm.relay_passes.split_batch import SplitBatch
from pock_tvm.relay_passes.split_prefix import SplitPrefix
from pock_tvm.relay_passes.tile_attention import TileAttention
from pock_tvm.relay_passes.transform_frozen_conv2d import TransformFrozenConv2d
from pock_tvm.relay_passes.update_touched_rows import UpdateTouchedRows
from pock_tvm.relay_passes.write_channels import WriteChannels
from pock_tvm.relay_passes.write_touched_rows import WriteTouchedRows

Teacher = tuple[tvm.IRModule, Sequence[str]]
"""The canonical model as it predicts, and the parameters that training will change."""


def canonicalize(
    batch_norm: Statistics,
    known: Mapping[str, np.ndarray],
    *,
    dropout: bool = False,
    lora: Mapping[str, Factors] | None = None,
    attention: Sequence[str] | None = None,
) -> Pass:
    """Return the passes that bring an imported model to the form that all others expect.

    Args:
        batch_norm: which statistics normalize in this graph.
        known: small frozen parameters, such as running statistics, to compute with at compile time.
        dropout: draw masks with a counter that is part of the state; else nothing is dropped.
        lora: the low-rank factors by the weights that they adapt.
        attention: in tiles, where given: what learns, which may have no part in a mask.
    """
    return Sequential(
        [
            FoldPadIntoConv2d(),
            DecomposeBatchNorm(batch_norm),
            SeedDropout() if dropout else EliminateDropout(),
            DecomposeResize2d(),
            DecomposeLayers(),
            ConvertToChannelsLast(),
            LowerVolumesToPictures(),
            InsertLora(lora or {}),
            relax.transform.BindParams(
                "main", {k: tvm.runtime.tensor(v) for k, v in known.items()}
            ),
            FoldConstants(),
            CanonicalizeIndices(),
            SimplifyShapes(),
            DropUnreadRows(),
            SimplifyShapes(),
            relax.transform.EliminateCommonSubexpr(),
            *([FuseAttention(attention)] if attention is not None else []),
            HoistParameterLayout(),
        ],
        name="canonicalize",
    )


def quantize(weights: Mapping[str, np.ndarray], changing: Sequence[str]) -> Pass:
    """Return the passes that compute a canonical model's frozen prefix in 8-bit integers.

    Args:
        weights: values of the parameters, as ``canonicalize`` has them stored.
        changing: the parameters that training changes.
    """
    return Sequential([QuantizeFrozen(weights, changing)], name="quantize")


def learning_names(
    trainable: Sequence[str], slices: Mapping[str, StoredSlice], tables: Sequence[str] = ()
) -> list[str]:
    """Return what the optimizer calls the parameters, or the parts of them, that learn."""
    parts = {name: slice_name(name) for name in slices} | {name: rows_name(name) for name in tables}
    return [parts.get(name, name) for name in trainable]


def train(
    loss: Loss,
    optimizer: Optimizer,
    trainable: Sequence[str],
    slices: Mapping[str, StoredSlice],
    tables: Sequence[str] = (),
    *,
    teacher: Teacher | None = None,
    clipping: Clipping | None = None,
    accumulate: bool = False,
    keep_gradients: bool = False,
    micro_batches: tuple[Sequence[str], int] = ((), 1),
) -> Pass:
    """Return the passes that make a canonical model a training step.

    Args:
        loss: what to minimise.
        optimizer: how a gradient changes a weight.
        trainable: names of the parameters that learn, whole or in part.
        slices: the part of those that learn in some channels only.
        tables: those that learn only in the rows that a batch has read.
        teacher: of ``Distillation``: the graph before it learns, and what changes.
        clipping: what bounds the gradients.
        accumulate: the gradients of batches that ran before count too; see ``accumulate``.
        keep_gradients: return the gradients too.
        micro_batches: the inputs with a row per sample, and in how many parts to take the rows.
    """
    transforms = [clipping_transform(clipping)] if clipping else []
    learning = learning_names(trainable, slices, tables)
    return Sequential(
        [
            *_gradients(loss, trainable, slices, teacher, micro_batches),
            SliceTouchedRows(tables, trainable),
            *([AccumulateGradients(learning, update=True)] if accumulate else []),
            AppendOptimizer(
                optimizer, learning, transforms=transforms, keep_gradients=keep_gradients
            ),
            # First, since it takes the places of rows out of what is returned beside the updates.
            WriteTouchedRows(tables),
            WriteChannels(slices),
            UpdateTouchedRows(),
            PackMasks(),
        ],
        name="train",
    )


def accumulate(
    loss: Loss,
    trainable: Sequence[str],
    slices: Mapping[str, StoredSlice],
    *,
    teacher: Teacher | None = None,
) -> Pass:
    """Return the passes that make a canonical model add up gradients, without an update."""
    gradients = _gradients(loss, trainable, slices, teacher)
    add_up = AccumulateGradients(learning_names(trainable, slices), update=False)
    return Sequential([*gradients, add_up, PackMasks()], name="accumulate")


def _gradients(
    loss: Loss,
    trainable: Sequence[str],
    slices: Mapping[str, StoredSlice],
    teacher: Teacher | None,
    micro_batches: tuple[Sequence[str], int] = ((), 1),
) -> list[Pass]:
    """Return the passes from a canonical model to its loss and gradients."""
    return [
        *([AppendTeacher(*teacher)] if teacher else []),
        FoldScaleIntoConv2d({*trainable} - slices.keys()),
        AppendLoss(loss),
        SplitBatch(*micro_batches),
        DeriveBackward(trainable),
        SimplifyShapes(),
        relax.transform.EliminateCommonSubexpr(),
        RecomputeElementwise(),
        GroupMicroBatches(*micro_batches),
        KeepPoolTaps(),
        SliceChannels(slices, trainable),
    ]


def evaluate(loss: Loss, teacher: Teacher | None = None) -> Pass:
    """Return the passes that make a canonical model measure itself."""
    return Sequential(
        [
            *([AppendTeacher(*teacher)] if teacher else []),
            AppendLoss(loss, "accuracy"),
            relax.transform.EliminateCommonSubexpr(),
        ],
        name="evaluate",
    )


def lower(
    samples: Sequence[str] = (),
    changing: Sequence[str] = (),
    parts: int = 1,
    transformed: Mapping[str, np.ndarray] | None = None,
    *,
    fuse_gradient_readers: bool = False,
) -> Pass:
    """Return the passes that turn operators into fused kernels; reshapes stay, as views.

    Args:
        samples: the inputs that hold a row per sample.
        changing: the parameters that the graph changes.
        parts: in how many what depends on none of those takes its samples.
        transformed: weights that are read as Winograd's tiles multiply them.
        fuse_gradient_readers: the target's schedules take a gradient with all its readers.
    """
    return Sequential(
        [
            TileAttention(),
            SplitPrefix(samples, changing, parts),
            TransformFrozenConv2d(transformed or {}),
            FoldEmptyTensors(),
            FuseTransposeIntoMatmul(),
            relax.transform.DeadCodeElimination(),
            relax.transform.LegalizeOps(LOWERINGS, skip_ops=["relax.reshape"]),
            relax.transform.AnnotateTIROpPattern(),
            *([FuseGradientReaders()] if fuse_gradient_readers else []),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            relax.transform.DeadCodeElimination(["main"]),
        ],
        name="lower",
    )

"""What a model that is not compiled yet takes of one sample."""

from pock_tvm.artifact.sample_form import SampleForm, TensorForm
from pock_tvm.frontend import ImportedModel
from pock_tvm.losses import Loss
from pock_tvm.relay_passes.index_limits import index_limits
from pock_tvm.relay_passes.loss_values import labels_type


def sample_form(model: ImportedModel, loss: Loss) -> SampleForm:
    """Return the inputs of a model, and the labels that a loss compares its output with.

    Raises:
        UnsupportedModelError: the loss is not one of such outputs.
    """
    limits = index_limits(model.mod)
    output = model.mod["main"].ret_ty
    taken = labels_type(loss, output)
    of_classes = loss.labels == "classes"
    label = None
    if taken is not None:
        label = TensorForm(
            name="labels",
            dtype=str(taken.dtype),
            shape=tuple(int(d) for d in taken.shape)[1:],
            limit=int(output.shape[-1]) if of_classes else None,
            ignore=getattr(loss, "ignore_index", None) if of_classes else None,
        )
    return SampleForm(
        inputs=tuple(
            TensorForm(
                name=spec.name,
                dtype=spec.dtype,
                shape=tuple(spec.shape[1:]),
                limit=spec.limit if spec.limit is not None else limits.get(spec.name),
            )
            for spec in model.inputs
        ),
        label=label,
        batch=model.batch,
    )

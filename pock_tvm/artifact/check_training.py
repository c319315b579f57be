"""Refuse data that nothing could be learned from, before a step is done."""

import numpy as np

from pock_tvm.artifact.sample_form import SampleForm
from pock_tvm.errors import BatchError


def check_training(
    where: str, form: SampleForm, count: int, labels: np.ndarray | None, per_step: int
) -> None:
    """Check what can be known of samples without the model's weights.

    Args:
        where: the data, for messages.
        form: of the model.
        count: how many samples there are.
        labels: of all samples, None where the loss takes none.
        per_step: samples of an optimizer step.

    Raises:
        BatchError: fewer samples than a batch, or one class only.
    """
    if count < per_step:
        raise BatchError(
            f"{where} holds {count} samples, fewer than the {per_step} of a step; give more, or "
            "compile with a smaller --batch"
        )
    if labels is None or form.label is None or form.label.limit is None:
        return
    found = np.unique(labels[labels != form.label.ignore])
    if not len(found):
        raise BatchError(f"every label of {where} is {form.label.ignore}, which the loss ignores")
    if len(found) == 1:
        raise BatchError(
            f"every label of {where} is {found[0]}: there is nothing to tell apart; give samples "
            "of two classes at least"
        )

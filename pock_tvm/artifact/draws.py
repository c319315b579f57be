"""The batches of a run: what is drawn at each position, and what augmentation makes of it."""

from collections.abc import Mapping

import numpy as np

from pock_tvm.artifact.batch import check_count
from pock_tvm.artifact.check_training import check_training
from pock_tvm.artifact.description import ArtifactDescription
from pock_tvm.artifact.picture import needed_picture
from pock_tvm.artifact.sample_form import SampleForm
from pock_tvm.augmentation import Augmentation
from pock_tvm.sampling import samples_at


class Draws:
    """Samples in memory, in stored layout, as a run draws them."""

    def __init__(
        self,
        description: ArtifactDescription,
        samples: Mapping[str, np.ndarray],
        seed: int,
        augment: str | Augmentation | None = None,
    ) -> None:
        """Take the samples.

        Raises:
            BatchError: there are no pictures to augment, or nothing could be learned: fewer
                samples than a step takes, or one class only.
            UnknownNameError: the augmentation is not understood.
        """
        self._samples, self._seed, self._batch = samples, seed, description.batch
        self.count = check_count(samples)
        form = SampleForm.of(description)
        labels = None if form.label is None else samples[form.label.name]
        per_step = description.batch * description.accumulate
        check_training("the data", form, self.count, labels, per_step)
        self._augment = Augmentation.parse(augment) if isinstance(augment, str) else augment
        self._picture = None if self._augment is None else needed_picture(description)

    def at(self, position: int) -> dict[str, np.ndarray]:
        """Return the batch whose first sample is that of ``position``."""
        chosen = samples_at(self._seed, self.count, position, self._batch)
        drawn = {name: array[chosen] for name, array in self._samples.items()}
        if self._picture is not None:
            assert self._augment is not None
            name, axes = self._picture.tensor.name, self._picture.axes
            drawn[name] = self._augment.apply(drawn[name], axes, self._seed, position)
        return drawn

"""Errors a user can act on; anything else is a bug and stays a bare exception.

The message is one line that says what is wrong, where, and what to do about it. The command line
prints it on stderr and exits with 1.
"""


class PockError(Exception):
    """Base of every error raised on purpose."""


class UnknownNameError(PockError):
    """A target, model, optimizer, loss or parameter pattern names nothing that exists."""


class UnsupportedModelError(PockError):
    """The model uses operators that cannot be imported, differentiated or lowered; lists all."""


class UnreachableParameterError(PockError):
    """A parameter was chosen to learn, but the loss does not depend on it."""


class BatchError(PockError):
    """A batch has the wrong shape, dtype, or values out of range."""


class ArtifactError(PockError):
    """An artifact or a checkpoint is damaged, edited by hand, or made for another machine."""


class BuildError(PockError):
    """The cross-linker could not build the artifact's binary."""


class MemoryBudgetError(PockError):
    """No plan of the step fits the bytes that were asked for."""


class DivergedError(PockError):
    """The loss is not a finite number any more; the last good checkpoint was kept."""


class DeployError(PockError):
    """A device cannot be reached, refuses an artifact, or computes something else with it."""


class PrecisionError(PockError):
    """A precision that does not exist, or that the target has no instructions for."""


class TargetFileError(PockError):
    """A user's own target cannot be read, or describes no machine that can be compiled for."""


class RecordError(PockError):
    """Records of a tuner cannot be read or written, or decide what cannot be."""


class TuningError(PockError):
    """A kernel cannot be measured: no device answers, or it has to be compiled again."""

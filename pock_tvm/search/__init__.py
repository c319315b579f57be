"""What to update: measured contributions, and a search for schemes under a budget."""

from pock_tvm.search.samples import LabelledSamples, Samples, Split, read_npz, split

__all__ = ["LabelledSamples", "Samples", "Split", "read_npz", "split"]

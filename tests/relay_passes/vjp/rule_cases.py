"""The cases of test_rules.py, family by family."""

from cases_elementwise import ELEMENTWISE
from cases_importers import IMPORTERS
from cases_index import INDEX
from cases_nn import DROPOUT, NN
from cases_products import LINEAR_ALGEBRA
from cases_reduction import REDUCE
from cases_resample import RESAMPLE
from cases_scatter import SCATTER
from cases_shape import SHAPE

CASES = (
    ELEMENTWISE
    + REDUCE
    + LINEAR_ALGEBRA
    + NN
    + DROPOUT
    + INDEX
    + SCATTER
    + SHAPE
    + RESAMPLE
    + IMPORTERS
)

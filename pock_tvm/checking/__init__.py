"""``pock check``: is every gradient right, and is the compiled scheme the scheme asked for?"""

from pock_tvm.checking.check import check_model
from pock_tvm.checking.report import Report, TensorCheck

__all__ = ["Report", "TensorCheck", "check_model"]

"""The numbers that a kernel is predicted from: one extractor, for fitting and for predicting.

Every kernel has the same list of numbers, `NAMES`; what does not apply to it is NaN. Sizes are given as log2(1 + x),
since latency follows ratios of sizes. Which regression they go to is the kernel's `family`.
"""

from latency_models.features.forms import Form, form
from latency_models.features.names import CONTEXT, N_OWN, NAMES

__all__ = ["CONTEXT", "NAMES", "N_OWN", "Form", "form"]

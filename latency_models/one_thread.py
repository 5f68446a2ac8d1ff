"""Linear algebra on one thread: the matrices of a fit are small, and threads that wait for each other take all cores.

On two cores that others used too, a fit took 83 s of CPU time on two threads and 32 s on one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

__all__ = ["one_thread"]


def one_thread() -> AbstractContextManager[object]:
    """While this is entered, BLAS has one thread in the whole process; afterwards as many as before."""
    import scipy.linalg  # noqa: F401  its own BLAS must be there to be limited
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
    return limits

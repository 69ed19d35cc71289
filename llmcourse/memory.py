"""What happens to memory between two steps of a training.

Each step makes tensors of the same sizes and drops them. The C library of Linux, glibc,
hands large blocks back to the system when they are freed; the next step asks for them
again, and the system has to find and clear each page once more.
"""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # numbers of the options in malloc.h
_MOST = 2**31 - 1  # options are C's int
_MOST_OF_OLD_VERSIONS = 2**25  # bytes; they refuse to keep larger blocks


def keep_freed_memory() -> bool:
    """Let the process keep memory that it has freed; return whether it does.

    Nothing is computed differently, only the system is asked for memory less often:
    with batches of 8 × 256 tokens, a vocabulary of 2,048 and one thread, a step took
    1.25 times the processor time without it in bfloat16, and 1.09 times in float32.
    In return the process holds on to its peak use until it ends. Call it once, before
    a training, in a program of your own, not in a library.

    Only glibc can be told: elsewhere nothing happens. The environment variables
    ``MALLOC_TRIM_THRESHOLD_`` and ``MALLOC_MMAP_THRESHOLD_`` do the same from outside.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018, others have another mallopt or none
        mallopt = libc.mallopt
    except (OSError, TypeError, AttributeError):
        return False
    large = any(
        mallopt(_MMAP_THRESHOLD, n_bytes) for n_bytes in (_MOST, _MOST_OF_OLD_VERSIONS)
    )
    return large and bool(mallopt(_TRIM_THRESHOLD, _MOST))

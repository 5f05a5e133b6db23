"""Counter-based random numbers: any one can be drawn without those before it, so nothing random is ever saved."""

from collections.abc import Callable

import numpy as np

Uniform = Callable[[int], np.ndarray]
"""n -> the next n numbers of a stream, float64 in [0, 1)."""


def uniform_numbers(seed: int, stream: int, step: int, item: int = 0) -> Uniform:
    """The random numbers of one item of a step, in one stream: streams, steps and items do not depend on each other.

    Philox with the key (seed, stream) and the counter (item, step). Only its raw 64-bit words are used, because NumPy
    keeps their values the same in all versions.
    """
    key, counter = np.array([seed, stream], np.uint64), np.array([0, 0, item, step], np.uint64)
    words = np.random.Philox(key=key, counter=counter)
    return lambda n: (words.random_raw(n) >> np.uint64(11)) * 2.0**-53  # the upper 53 bits

"""Timing of training steps."""

import time


class Clock:
    """Measures training speed, and the share of time spent waiting for data, since the last `read`."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._since, self._waited = time.perf_counter(), 0.0

    def waiting(self) -> "Clock":
        """For `with clock.waiting():` around the wait for a batch."""
        return self

    def __enter__(self) -> None:
        self._entered = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._waited += time.perf_counter() - self._entered

    def read(self, pairs: int) -> dict[str, float]:
        """`seconds` since the last reading, `pairs_per_s`, and `data_wait`, the share of waiting (0 to 1)."""
        seconds = time.perf_counter() - self._since
        values = {"seconds": seconds, "pairs_per_s": pairs / seconds, "data_wait": self._waited / seconds}
        self.restart()
        return values

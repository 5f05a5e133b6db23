"""Limits how much a file may grow when it is read: by compression or dictionaries, a few kilobytes can hold gigabytes.

A file of less than 1 MB is read or refused within 1 GB of memory and 20 seconds (`tests/scripts/amplification.py`).
"""

SMALL = 1_000_000
"""Bytes of a small file."""
MOST_OF_SMALL = 32_000_000
"""What a small file may grow to."""
MOST_TIMES = 64
"""How many times its size another file may grow to. Texts in a natural language grow five times when gzip is undone."""
EACH = 100
"""What a line, a row or a hard negative counts besides its characters: what its objects take."""


class Growth:
    """Counts what is read from a file of `size` bytes (0: unknown, nothing is refused)."""

    def __init__(self, name: str, size: int) -> None:
        self._name, self._size = name, size
        self._most = MOST_OF_SMALL if size < SMALL else MOST_TIMES * size
        self._found = 0

    def add(self, n: int) -> None:
        """Counts `n` bytes more; `ValueError` if they are too many."""
        self._found += n
        if self._size and self._found > self._most:
            raise ValueError(
                f"{self._name} has {self._size} bytes and grows to more than {self._most} when it is read: it may be "
                "made to fill the memory. If you trust it, unpack it (gunzip), write Parquet without dictionaries and "
                "compression, or lower data.max_negatives"
            )

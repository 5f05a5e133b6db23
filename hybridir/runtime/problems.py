"""Several errors told in one message, so that a user mends them all before the next start."""

from collections.abc import Iterator
from contextlib import contextmanager


class Problems:
    """Collects the messages of `ValueError`s."""

    def __init__(self) -> None:
        self.found: list[str] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """A `ValueError` inside the block ends the block, and is kept for `tell`."""
        try:
            yield
        except ValueError as error:
            if str(error) not in self.found:
                self.found.append(str(error))

    def tell(self) -> None:
        """`ValueError` with all messages, if there are any."""
        if len(self.found) == 1:
            raise ValueError(self.found[0])
        if self.found:
            listed = "".join(f"\n- {message}" for message in self.found)
            raise ValueError(f"{len(self.found)} things have to be corrected before the run can start:{listed}")

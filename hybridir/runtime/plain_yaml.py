"""Reads YAML that may come from others: plain values only, and a small file never becomes large in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

_MOST_REPEATED = 10_000
"""Values that a document may hold after its aliases are replaced by what they stand for."""


def read_yaml(file: Path) -> dict[str, Any]:
    """The content of a YAML or JSON file; `ValueError` if it cannot be read or is no mapping."""
    if file.exists() and not file.is_file():  # who reads a pipe waits for ever
        raise ValueError(f"{file} is no ordinary file: remove it, or name another")
    try:
        found = load_yaml(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, OSError) as error:
        raise ValueError(f"{file} cannot be read ({error}): repair it, or name another") from None
    if not isinstance(found, dict):
        raise ValueError(f"{file} is not a mapping of names to values: repair it, or name another")
    return found


def load_yaml(text: str | bytes) -> Any:
    """What `yaml.safe_load` gives. `ValueError` for what `check_yaml` refuses; `yaml.YAMLError` if it is no YAML."""
    check_yaml(text)
    with not_too_deep():
        return yaml.safe_load(text)


@contextmanager
def not_too_deep() -> Iterator[None]:
    """While entered, a document that is nested too deeply is a `ValueError`."""
    try:
        yield
    except RecursionError:
        raise ValueError("the YAML is nested too deeply: write it flatter") from None


def check_yaml(text: str | bytes) -> None:
    """Refuses a document whose aliases (`*name`) repeat so much that it would fill the memory, before it is made.

    Raises:
        ValueError: it would have more than 10,000 values by aliases, contains itself, or is nested too deeply.
        yaml.YAMLError: it is no YAML.
    """
    if (b"*" if isinstance(text, bytes) else "*") not in text:  # type: ignore[operator]
        return
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = _MOST_REPEATED  # while it is open: it would be infinite
            parts = [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else node.value
            sizes[id(node)] = 1 + (0 if isinstance(node, yaml.ScalarNode) else sum(map(size, parts)))
        return sizes[id(node)]

    with not_too_deep():
        root = yaml.compose(text, yaml.SafeLoader)
        repeats = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader))
        large = repeats and root is not None and size(root) > _MOST_REPEATED
    if large:
        raise ValueError(
            f"the YAML repeats itself by aliases (*name) until it has over {_MOST_REPEATED:,} values: write them out"
        )

"""Versions of the libraries that results depend on."""

import sys
from importlib.metadata import PackageNotFoundError, version


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on, by name; `not installed` for a missing one."""
    found = {"python": sys.version.split()[0]}
    for package in ("hybridir", "torch", "transformers", "numpy", "ray", "bm25s"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found

"""hybridir: train and measure retrievers that search across languages."""

__version__ = "0.1.0"

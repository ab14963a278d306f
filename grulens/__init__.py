"""grulens opens the gates of any PyTorch GRU inside a notebook."""

__version__ = "0.1.0"

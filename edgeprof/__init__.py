"""The host: reach devices, profile models on them, remember, report."""

__version__ = "0.1.0"

"""Predict latency without a device: the graph of a model, its work, and boards to do it."""

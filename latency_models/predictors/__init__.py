"""Regressions of log latency on the features of kernels: one for each family of kernels, from four simple parts."""

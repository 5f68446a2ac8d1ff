"""How to run a model on a device: which runtime, threads, cores and clocks, found by measuring few of them."""

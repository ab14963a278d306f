"""The mathematics of a GRU: tensors in, tensors out; no module, no hook."""

"""The mathematics of a recurrent cell: tensors in, tensors out; no module and no hook."""

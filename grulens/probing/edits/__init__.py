"""Changes to a signal, as values that hold for any input."""

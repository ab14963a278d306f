"""The gates and states of a run over its steps."""

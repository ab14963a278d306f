"""Questions asked of a model: what happens if a signal is changed, and where it matters."""

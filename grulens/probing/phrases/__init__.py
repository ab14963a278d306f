"""Which parts of an input act together."""

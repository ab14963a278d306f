"""Which units matter, when, and along which path."""

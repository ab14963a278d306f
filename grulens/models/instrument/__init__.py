"""Watching a model while it runs, and changing signals on the way."""

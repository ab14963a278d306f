"""A corpus scanned once: what is kept of it on disk, and the questions that this answers."""

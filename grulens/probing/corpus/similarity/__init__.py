"""How alike the states of two scans are, over all that both have read."""

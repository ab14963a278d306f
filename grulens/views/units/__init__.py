"""One row or bar a unit."""

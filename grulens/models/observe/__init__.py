"""Cells whose gates are read in their module's own forward, found by the equation they obey."""

"""Relevance on its way back through a cell."""

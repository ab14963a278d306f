"""Figures of results, without a session around them."""

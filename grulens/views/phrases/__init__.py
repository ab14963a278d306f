"""Phrases within phrases over the tokens."""

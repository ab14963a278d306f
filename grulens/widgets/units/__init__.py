"""The screen of the units."""

"""The screen of two runs beside each other."""

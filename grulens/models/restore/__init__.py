"""Leaving a model as it was: hooks, modes, random numbers, interrupts."""

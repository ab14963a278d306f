"""The screen of the phase portrait."""

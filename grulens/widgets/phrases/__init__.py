"""The screen of the phrase tree."""

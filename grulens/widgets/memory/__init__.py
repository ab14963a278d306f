"""The screen of the memory."""

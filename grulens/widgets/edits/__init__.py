"""The screen of the edits."""

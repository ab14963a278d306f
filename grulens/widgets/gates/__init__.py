"""The screen of the gates."""

"""The screen of a scanned corpus."""

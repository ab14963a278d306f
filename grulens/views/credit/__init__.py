"""What each step adds to a score."""

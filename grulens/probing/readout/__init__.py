"""What a model answers, in numbers."""

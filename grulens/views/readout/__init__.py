"""What the model answers, before and after."""

"""Two runs side by side: which steps stand beside each other, and what is different there."""

"""What the states of a corpus say of labels, linearly, beside what they say of random ones."""

"""What a model does over many inputs: the automaton that it follows."""

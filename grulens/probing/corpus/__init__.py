"""Questions asked of a model over many inputs: what its units encode, which automaton it is."""

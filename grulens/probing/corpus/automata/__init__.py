"""The finite automaton that a network follows: built by questions or from states, and compared."""

"""The part of every state that a piece of the input made."""

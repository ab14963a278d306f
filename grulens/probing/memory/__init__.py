"""Which past a state is made of, and how long it lasts."""

"""A layer as a dynamical system, from the states that it visits."""

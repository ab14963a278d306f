"""What a state is made of and how long it lasts, from the gates of a run."""

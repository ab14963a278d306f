"""Pictures of what states are made of and how long they last."""

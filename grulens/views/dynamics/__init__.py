"""Pictures of how a network moves and where it stands still."""

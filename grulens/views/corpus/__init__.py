"""Pictures of what was found over many inputs."""

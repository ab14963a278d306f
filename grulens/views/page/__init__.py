"""The whole lens as one HTML file."""

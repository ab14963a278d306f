"""The same questions asked of grulens and of the tools that come nearest, side by side."""

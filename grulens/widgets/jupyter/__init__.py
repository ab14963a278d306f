"""How a figure reaches the browser, and what happens to it there."""

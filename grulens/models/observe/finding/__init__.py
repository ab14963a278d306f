"""Finding the gates in what a run made: its sums and products, taken apart."""

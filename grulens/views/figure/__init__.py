"""What all figures share: frame, palette, pictures of matrices, token texts."""

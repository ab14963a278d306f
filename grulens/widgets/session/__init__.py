"""What the screens share: model, input, selection, edits, and the frame around controls."""

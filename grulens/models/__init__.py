"""The user's nn.Module: find its layers, record them, splice edited output back in."""

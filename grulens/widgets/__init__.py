"""The screens: each reads and writes one Session, so any number of them stay linked."""

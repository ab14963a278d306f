"""How modules are read, and whether they compute what is said of them."""

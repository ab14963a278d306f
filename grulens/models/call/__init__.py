"""One call of a module, in one form whatever the module is."""

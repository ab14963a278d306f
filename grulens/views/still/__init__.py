"""Pictures that need no script, no network and no kernel."""

"""Which inputs an answer is owed to."""

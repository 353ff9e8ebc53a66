"""What became of each completion: the local store and its schema, and what is read off the edits that follow."""

"""`midspan batch`: every marked gap of a tree, filled into one patch."""

"""What `midspan bench` measures."""

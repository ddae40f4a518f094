"""What models carry from window to window."""

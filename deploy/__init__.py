"""The same file, deployed."""

"""What is removed by its age, in small pieces, and what must not be."""

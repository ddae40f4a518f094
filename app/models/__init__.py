"""Models that were taken in, known by their digest."""

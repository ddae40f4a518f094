"""northbound."""

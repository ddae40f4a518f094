"""A plant as it was applied: revisions, each whole, each with its difference."""

"""A mock: a package of MagicMind."""

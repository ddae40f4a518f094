"""Classes of tags: how long readings are kept as they came, and when points take their place."""

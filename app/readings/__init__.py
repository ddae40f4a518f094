"""Readings as batches came in, and the latest value of every tag."""

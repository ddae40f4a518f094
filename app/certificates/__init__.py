"""Certificates of a model on a device: what the activation check found, whether it holds now, and overrides of it."""

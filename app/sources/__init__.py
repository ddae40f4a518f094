"""Connections to the plant and the tags they carry."""

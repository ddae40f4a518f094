"""A mock of RKNN-Toolkit2."""

"""A mock of RKNN-Toolkit-Lite2."""

"""A mock: what ixRT's samples import beside the shim `tensorrt`."""

__version__ = "1.0"

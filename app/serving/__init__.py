"""Models offered to callers by the Open Inference Protocol v2."""

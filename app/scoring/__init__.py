"""Windows in, predictions out: the worker's one transaction per message."""

"""One file per maker's compiler and runtime, loaded by its path in an engine's environment (`engine_compiled`)."""

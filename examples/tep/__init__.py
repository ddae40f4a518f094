"""The Tennessee Eastman plant: a benchmark chemical process with 28 faults, and a model that detects them."""

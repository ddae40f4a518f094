"""The plant of the acceptance test, with logs of its own that what is stored can be held against."""

"""One file per chip maker, mostly data; `inference.vendors()` finds them by name."""

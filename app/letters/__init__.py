"""What could not be scored: attempts that died, windows that are kept whole, and what people do with them."""

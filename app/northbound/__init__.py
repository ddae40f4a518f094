"""Standing orders of northbound consumers, and the outbox that fills them."""

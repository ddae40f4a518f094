"""The few kinds of runtime; a vendor file binds one of them to a chip maker."""

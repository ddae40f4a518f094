"""A box in one file: configuration, models and history as they were at one moment, and back again on an empty box."""

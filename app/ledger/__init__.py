"""What became of every reading: read = stored + refused + dropped + held, per connection."""

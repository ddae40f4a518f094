"""What a gateway that takes over has to know of the numbers of its predecessor."""

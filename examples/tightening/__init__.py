"""A tightening station: torque and angle curves of a screwing spindle, and a model that judges them."""

"""What plants report of their own: their events and alarms."""

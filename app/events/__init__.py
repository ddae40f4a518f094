"""Alarms that rules raise, acknowledge and clear (ISA-18.2), and their history."""

"""Leases: who of several gateways over one database owns a connection or a subscription."""

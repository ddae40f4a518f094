"""Promises of the box itself, looked at while it runs: what is broken is an event like any other."""

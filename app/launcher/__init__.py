"""Starts, watches and stops the processes of a box: servers found or embedded, and our own."""

"""Benchmarks against limits and peers, each a command; see README.md."""

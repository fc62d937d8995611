"""Benchmarks against native replication: `python -m benchmarks --help`, README.md beside this file."""

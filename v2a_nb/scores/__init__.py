"""Benchmarks on the shipped weights: what `v2a-nb score` runs."""

"""Benchmarks: one question a function, one command for all. Results are printed, never asserted."""

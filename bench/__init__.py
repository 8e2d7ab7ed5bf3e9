"""Benchmarks: each checks its own result before it reports a time, and stores every run."""

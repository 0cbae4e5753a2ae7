"""Unit tests of the benchmarks: arithmetic, counters, corpus."""

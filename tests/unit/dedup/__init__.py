"""Unit tests of dedup."""

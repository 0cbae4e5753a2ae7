"""Unit tests of what the host is asked for."""

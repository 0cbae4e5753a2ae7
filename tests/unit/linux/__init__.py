"""Unit tests of what Linux is asked for."""

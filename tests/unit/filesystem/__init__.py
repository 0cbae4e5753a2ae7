"""Unit tests of the file system."""

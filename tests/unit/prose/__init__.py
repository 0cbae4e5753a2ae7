"""Unit tests of the prose linter."""

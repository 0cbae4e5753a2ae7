"""Unit tests of the front end and its backends."""

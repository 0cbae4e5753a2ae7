"""Unit tests of the codecs."""

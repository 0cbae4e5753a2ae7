"""Unit tests of reclaim."""

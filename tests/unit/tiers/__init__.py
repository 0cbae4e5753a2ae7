"""Unit tests of the tiers."""

"""Adapters called directly: nothing is mounted."""

"""Dedup: pages with the same contents share an object."""

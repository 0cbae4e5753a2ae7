"""Reclaim: room in the pool, by writeback, cleaning and recompression."""

"""Plugins of other packages: what there is, and what became of it."""

"""Unit tests of plugins of other packages."""

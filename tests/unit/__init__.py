"""Unit tests: mirror the package, mount nothing, need no root."""

"""The prose linter of scripts/check: pages and docstrings against the rules for words."""

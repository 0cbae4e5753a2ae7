"""The pure parts of scripts/kernels: names, sources, verdicts, tables."""

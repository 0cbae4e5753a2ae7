"""What runs inside a guest: `init`, `run.py`, and five programs in C, linked statically."""

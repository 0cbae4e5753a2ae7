"""What runs inside a guest: `init`, `run.py`, and four programs in C, linked statically."""

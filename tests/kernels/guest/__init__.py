"""What runs inside a guest: `init`, `run.py`, and three programs in C, linked statically."""

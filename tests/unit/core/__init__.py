"""What may be compiled, and the build of it."""

"""Real mounts, both transports."""

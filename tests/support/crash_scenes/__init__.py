"""What a worker can be doing when it dies."""

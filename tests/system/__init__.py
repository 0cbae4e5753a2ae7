"""Loop devices, swap and memory cgroups."""

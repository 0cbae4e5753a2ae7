"""The processes of a device: supervisor, worker, standby, and their life."""

"""Unit tests of the processes of a device."""

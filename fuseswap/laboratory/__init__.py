"""Traces and simulation: what is recorded of a device, and devices without a machine.

Commands use it, the daemon never does (``tests/unit/test_dependencies.py``).
"""

"""Traces and simulation: records of devices, and devices without a machine.

Commands use it, the daemon never does (``tests/unit/test_dependencies.py``).
"""

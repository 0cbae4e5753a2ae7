"""Fixtures of the tests of the front end."""

from __future__ import annotations

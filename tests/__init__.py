"""Tests of fuseswap."""

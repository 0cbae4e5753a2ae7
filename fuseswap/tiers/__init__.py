"""Tiers: where sealed segments go when they leave memory.

``tier.py`` has the contract, ``tier_table.py`` the tiers there are and which extent of them is
free, and ``relocation.py`` moves a segment between memory and tiers.
"""

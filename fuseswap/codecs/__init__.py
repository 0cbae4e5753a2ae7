"""Codecs: how the bytes of one page get smaller, and come back.

``codec`` has the protocol, ``registry`` the numbers and names, ``checksum`` what makes sure of
a page.  Knows nothing of where payloads lie.
"""

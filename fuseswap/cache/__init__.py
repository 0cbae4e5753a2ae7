"""The store: compressed pages in a segment log.  Imports neither trio nor FUSE.

``state`` owns the shared files, ``slots`` the slot table, ``segments`` the log,
``codecs`` the compressors, ``pool`` the store, load and invalidate of a page.
"""

"""The store: what survives a crash.  Imports neither trio nor FUSE."""

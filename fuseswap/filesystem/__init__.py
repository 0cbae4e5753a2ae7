"""The file system: one file of swap, and text files beside it.  Knows no FUSE."""

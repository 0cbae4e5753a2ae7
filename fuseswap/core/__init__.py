"""The compiled core: which modules are in it, how it is built, and whether it runs."""

"""The front end and its backends: where a page is stored, in which order backends are asked."""

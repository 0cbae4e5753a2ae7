"""Linux: system calls and files of the kernel, each behind a small door."""

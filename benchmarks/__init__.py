"""Measures fuseswap against its peers; ``scripts/bench`` runs it, users never import it.

    __main__   options, the lock, the order of things
    suites     what a suite is, and the list of them
    io_run     suite `io`: fio on the file or the device of each peer
    swap_run   suite `swap`: a process under memory pressure, one swap area at a time
    peers      what is measured: prepare, path, teardown
    nbd        the peer that needs two servers
    fio        jobs as fio commands, fio's JSON as numbers
    command    run a command that may hang on a mount
    results    measurements, medians, ratios, targets
    report     tables and JSON
    machine    what it ran on

A further suite is a module like `swap_run` and one line in `suites`; a further peer is
a subclass of `peers.Peer`.
"""

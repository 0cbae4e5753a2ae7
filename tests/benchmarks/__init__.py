"""Measures fuseswap against its peers; ``scripts/bench`` runs it, users never import it.

    __main__   options, the lock, the order of things
    suite      what a suite is, and whose turn it is
    suites     the list of them
    io_run     suite `io`: fio on the file or the device of each peer
    swap_run   suite `swap`: a process under memory pressure, one swap area at a time
    writeback_run  suite `writeback`: the same with pools that overflow to a disk
    tiers_run  suite `tiers`: what a page on a tier costs; written_back: how fast one gets there
    busy_run   suite `busy`: reads at depth 1 beside a writer
    churn_run  suite `churn`: overwrites at 90 % occupancy
    memory_run  suite `memory`: the same pages in each peer; forked_run: as processes
    page_sets  which pages those are; page_io: writes, verifies, times; forked: the processes
    plot       a drawing of `memory`
    corpus     ``scripts/corpus``: the memory of programs as files
    corpus_programs, corpus_material, programs/  what is started, and what it works on
    corpus_pages, corpus_table  pages of a process; what is in them
    peers      what is measured: prepare, path, teardown
    zswap      its parameters, and zswap as a peer
    tier_peers  devices with one tier: a file, or a server behind a network
    nbd        the peer that needs two servers
    fio        jobs as fio commands, fio's JSON as numbers
    counters   numbers of the kernel and of a device, before and after
    sampler    a device's statistics once a second during a run
    command    run a command that may hang on a mount
    results    measurements, medians, ratios, targets
    report     tables and JSON
    machine    what it ran on

A further suite is a module like `swap_run` and one line in `suites`; a further peer is
a subclass of `peers.Peer`.
"""

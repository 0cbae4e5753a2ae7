"""``scripts/hostile``: what an ordinary user can do to a swap run beside him.

__main__     options
run          a device, a process under memory pressure, slices with and without the user
record       what came back of each attempt, what it cost, and the verdict
user         the hostile process: drops every right, then tries in a loop
attempts     one attempt of any kind, and how its outcome is told
files        ... at the mount, the runtime directory, locks, links in ``/tmp``
processes    ... at supervisor, worker, standby and the process under pressure
machine      ... at devices, namespaces, and all that users share
"""

"""The whole runtime but its door, in one Trio run, under faults that one printed seed decides.

`world` has the ports: disk, store, network, clock and chance, each of which counts its calls and can stop the machine.
`programs` makes cycles, `model` says what must come of them, `running` starts processes and lets them die,
`life` is one run from a seed, `scenarios` are told by hand, `breaks` are defects put in on purpose.

What it does not simulate: SQLite's own files, whose promise (an older, whole checkpoint after a power loss) is
taken as given; sockets, which the tests of the door and of `outbound` have; threads, which the seams keep out.
"""

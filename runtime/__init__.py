"""The Trio shell: actors, group commit, store, door, outbound calls, timers and the command line."""

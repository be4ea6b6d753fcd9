"""The pure core: what a cycle means, decided and folded without I/O, clocks or chance."""

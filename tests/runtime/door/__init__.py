"""The door: the lane, its HTTP/1.1, and Hypercorn behind it."""

"""The front door: HTTP in, and the same answers whichever way a request came."""

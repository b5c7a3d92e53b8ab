"""One connection to a peer, plain or under TLS."""

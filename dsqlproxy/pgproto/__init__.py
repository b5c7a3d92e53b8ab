"""The PostgreSQL protocol: bytes to values and back; pure standard library, no I/O."""

"""The benchmark: the proxy beside direct TLS, PgBouncer and stunnel, in one run.

``python -m bench`` starts everything that it needs on loopback, measures in
interleaved rounds, ends it, and writes ``docs/performance.md``.
"""

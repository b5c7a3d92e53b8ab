"""One client's life, over one or more upstreams."""

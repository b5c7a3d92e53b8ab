"""Who the proxy is to AWS: credentials, and the tokens that they sign."""

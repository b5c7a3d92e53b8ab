"""The cluster's side: endpoints, tokens, connections."""

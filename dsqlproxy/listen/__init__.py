"""The client's side: listeners, admission, cancel keys."""

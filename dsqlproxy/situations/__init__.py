"""What goes wrong, and what its client is told: every sentence in one room."""

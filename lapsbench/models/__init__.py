"""Models by name: found, loaded, or derived from one another, and what is known of each."""

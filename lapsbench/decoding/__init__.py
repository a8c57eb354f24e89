"""Speculative decoding with a real target and draft: the networks, their caches, and the rounds."""

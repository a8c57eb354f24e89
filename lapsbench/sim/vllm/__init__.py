"""vLLM's scheduling rules, compiled: one token budget, blocks of memory, recomputation, and its prefix cache."""

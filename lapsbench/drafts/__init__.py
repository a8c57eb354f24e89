"""Controllers: who says how many tokens are drafted, step by step. One file each; writing it registers it."""

"""What is compiled, and kept as machine code: the one room that knows Numba and llvmlite."""

"""A trace served for real: by a child process a cell, whose step log becomes the cell's outcome."""

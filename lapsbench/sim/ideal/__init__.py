"""The rules of the ideal engine, compiled: select, fill, price, advance."""

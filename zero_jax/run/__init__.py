"""A search from start to finish."""

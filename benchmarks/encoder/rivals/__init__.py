"""Other servers of the same engine, each written as its documentation shows."""

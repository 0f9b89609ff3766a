"""encoder: its engine beside other engines, and its server beside other servers of the same engine."""

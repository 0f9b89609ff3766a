"""Compare encoder's engine with other engines, and its server with other servers of the same engine."""

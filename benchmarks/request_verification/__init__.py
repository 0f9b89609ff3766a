"""Measure the latency that signature verification adds, compared with the same server without it."""

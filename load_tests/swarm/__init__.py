"""Master and workers of a load test on Locust, run as separate processes because Locust patches the interpreter."""

# Importing Locust patches sockets, so import it before anything creates one; an unpatched client blocks all users.
import locust

__all__ = ["locust"]

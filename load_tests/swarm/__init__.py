"""Master and workers of a load test, on Locust: run as processes of their own, since Locust patches the interpreter."""

# Before anything that makes sockets, or clients would block all users of a worker: importing Locust patches them.
import locust

__all__ = ["locust"]

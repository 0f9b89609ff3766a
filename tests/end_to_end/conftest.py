from tests.local_account import account, folder, state

__all__ = ["account", "folder", "state"]

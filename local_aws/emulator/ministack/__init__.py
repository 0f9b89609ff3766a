"""Everything this project uses of MiniStack: no other code imports it, because most of these names are private.

To upgrade MiniStack, pin the new version in `local_aws/requirements.txt`, compare the names in `names.py` with its
source, and run `python -m tools.emulated_operations`.
"""

"""Everything this project uses of MiniStack: no other code imports it, because most of these names are private."""

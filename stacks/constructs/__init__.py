"""The constructs that the stacks compose."""

"""Names of stacks and constructs."""


def camel(key: str) -> str:
    """`bert_int8` as `BertInt8`."""
    return "".join(part.capitalize() for part in key.split("_"))

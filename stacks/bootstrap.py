"""The CDK's bootstrap template, with images scanned on push.

`cdk bootstrap --show-template | python -m stacks.bootstrap` prints it.

Images of `containers/` are assets, which the CDK pushes into the bootstrap's repository under the hash of what they are
built from. That repository is immutable as the CDK makes it, and scans only where its template says so.
"""

import sys
from typing import Any

import yaml

REPOSITORY = "ContainerAssetsRepository"


def hardened(template: str) -> str:
    """The template whose repository scans what is pushed.

    Raises ValueError for a template without the repository, or whose tags can be moved to other images.
    """
    document: dict[str, Any] = yaml.safe_load(template)
    repository = document.get("Resources", {}).get(REPOSITORY)
    if repository is None:
        raise ValueError(f"the template has no {REPOSITORY}: give that of `cdk bootstrap --show-template`")
    properties = repository["Properties"]
    if properties.get("ImageTagMutability") != "IMMUTABLE":
        raise ValueError(f"{REPOSITORY}.ImageTagMutability is {properties.get('ImageTagMutability')!r}: set IMMUTABLE")
    properties["ImageScanningConfiguration"] = {"ScanOnPush": True}
    return yaml.safe_dump(document, sort_keys=False, width=10_000)


def main() -> int:
    """Reads standard input, writes standard output; returns the exit code."""
    try:
        sys.stdout.write(hardened(sys.stdin.read()))
    except (ValueError, yaml.YAMLError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

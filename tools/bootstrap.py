"""Print the CDK's bootstrap template, changed to scan images on push.

Usage: `cdk bootstrap --show-template | python -m tools.bootstrap`.

Images of `containers/` are assets. The CDK pushes them into the bootstrap repository under the hash of their sources.
The CDK makes that repository immutable, but it scans images only if the template says so.
"""

import sys
from typing import Any

import yaml

REPOSITORY = "ContainerAssetsRepository"


def hardened(template: str) -> str:
    """Return the template with a repository that scans images on push.

    Raises ValueError for a template without the repository, or with a repository whose tags can be moved.
    """
    document: dict[str, Any] = yaml.safe_load(template)
    repository = document.get("Resources", {}).get(REPOSITORY)
    if repository is None:
        raise ValueError(f"the template has no {REPOSITORY}: use the output of `cdk bootstrap --show-template`")
    properties = repository["Properties"]
    if properties.get("ImageTagMutability") != "IMMUTABLE":
        raise ValueError(f"{REPOSITORY}.ImageTagMutability is {properties.get('ImageTagMutability')!r}: set IMMUTABLE")
    properties["ImageScanningConfiguration"] = {"ScanOnPush": True}
    return yaml.safe_dump(document, sort_keys=False, width=10_000)


def main() -> int:
    """Convert standard input to standard output, and return the exit code."""
    try:
        sys.stdout.write(hardened(sys.stdin.read()))
    except (ValueError, yaml.YAMLError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""MiniStack with this project's extension: `python -m local_aws.emulator`."""

import ministack.app as ministack_app
from ministack.services import cloudformation  # noqa: F401  (its import fills the tables that the extension adds to)

from local_aws.emulator import codebuild, sagemaker, snapshots, storage

if __name__ == "__main__":
    for extension in (sagemaker, codebuild, storage):
        extension.register()
    snapshots.start()
    ministack_app.main()

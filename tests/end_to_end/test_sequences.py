"""A few random edits of a deployment file are deployed one after the other; `scripts/sequences` deploys hundreds."""

from pathlib import Path

import pytest

from local_aws.account import LocalAccount
from tests.sequences.run import Sequence

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]
ACCOUNT_ENVIRONMENT = {"INFERENCE_LOCAL_TIME_SCALE": "60"}
SEED = 2167
"""The six edits that it gives add and remove workloads, and change tags, instances and what is refused."""


def test_after_every_edit_what_is_served_is_what_the_file_says_and_destroy_leaves_nothing(
    account: LocalAccount, folder: Path
) -> None:
    del account
    sequence = Sequence(folder, SEED)
    for _ in range(6):
        sequence.step()
    sequence.destroy()

"""`python -m load_tests.swarm master|worker`: the processes of a load test, on one machine or several.

All settings come from environment variables, so a container needs nothing else:
LOAD_TEST_PLAN   path or s3:// URL of the plan (load_tests.plan.Plan as JSON)
LOAD_TEST_MASTER HOST:PORT where the master listens and its workers connect
LOAD_TEST_RESULT path or s3:// URL that the master writes the result to (load_tests.result.LoadResult as JSON)
LOAD_TEST_PARENT optional: this process exits when its parent is no longer the process with this id

The master exits with 0 if all gates passed, 1 if any failed, and 2 if there is no result.
"""

import logging
import os
import sys

import gevent
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from load_tests.payloads.file import read_document
from load_tests.plan import Plan
from load_tests.swarm import master, worker
from load_tests.swarm.senders import SendFailedError

_ERRORS = (KeyError, OSError, ValueError, BotoCoreError, ClientError, SendFailedError, master.NoWorkersError)


def main(arguments: list[str]) -> int:
    """Run one process and return its exit code."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    if arguments not in (["master"], ["worker"]):
        print(f"error: role is {' '.join(arguments) or 'missing'}: give master or worker", file=sys.stderr)
        return 2
    try:
        if "LOAD_TEST_PARENT" in os.environ:
            gevent.spawn(_end_with, int(os.environ["LOAD_TEST_PARENT"]))
        plan = Plan.model_validate_json(read_document(_setting("LOAD_TEST_PLAN")))
        host, _, port = _setting("LOAD_TEST_MASTER").rpartition(":")
        if arguments == ["worker"]:
            worker.run(plan, host, int(port))
            return 0
        return 0 if master.run(plan, host, int(port), _setting("LOAD_TEST_RESULT")).passed else 1
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        print(
            f"error: the plan cannot be read: {wrong}. It may come from another version of load_tests than this "
            "process: deploy the LoadTestStack again",
            file=sys.stderr,
        )
        return 2
    except _ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _setting(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ValueError(f"{name} is not set: see python -m pydoc load_tests.swarm.__main__")
    return value


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        gevent.sleep(1)
    os._exit(2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

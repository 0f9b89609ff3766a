"""What master and workers say to each other beside Locust's own messages."""

BEGIN = "load_tests.begin"
"""From the master, when all workers are there: `numbers` by client id. Second 0 of the test is its arrival."""
FINISH = "load_tests.finish"
"""From the master: send nothing more, wait at most `seconds` for answers, then FINAL."""
FINAL = "load_tests.final"
"""From a worker: its last report; a worker that sends none is lost."""
REPORT = "load_tests"
"""The key of a recorder's report in the reports that Locust's workers send."""
REPORT_SECONDS = 1.0
LISTENS = "load_test_listens"
"""A worker hears BEGIN from now on; Locust calls it ready before that."""

"""Messages between the master and its workers, in addition to Locust's own."""

BEGIN = "load_tests.begin"
"""From the master, once all workers are connected: `numbers` by client id. Its arrival is second 0 of the test."""
FINISH = "load_tests.finish"
"""From the master: stop sending, wait at most `seconds` for responses, then send FINAL."""
FINAL = "load_tests.final"
"""From a worker: its last report; a worker that does not send one is lost."""
REPORT = "load_tests"
"""Key of a recorder's report in the reports that Locust's workers send."""
REPORT_SECONDS = 1.0
LISTENS = "load_test_listens"
"""From a worker: it receives BEGIN from now on; Locust reports a worker as ready before that."""

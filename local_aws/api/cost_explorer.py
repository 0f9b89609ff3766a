"""Cost Explorer's anomaly monitors, which `local_aws/emulator` implements for templates."""

from local_aws.api.declaration import Members, Service

_ONE_PAGE = "the first response lists everything"
_PAGES = {"NextPageToken": _ONE_PAGE, "MaxResults": _ONE_PAGE}

COST_EXPLORER = Service(
    "ce",
    "Cost Explorer",
    ("GetAnomalyMonitors", "GetAnomalySubscriptions"),
    {
        "GetAnomalyMonitorsRequest": Members("MonitorArnList", refused=_PAGES),
        "GetAnomalySubscriptionsRequest": Members("SubscriptionArnList MonitorArn", refused=_PAGES),
    },
)

"""CloudWatch Logs' operations that `local_aws/emulator` implements."""

from local_aws.api.declaration import Members, Service

_ONE_ACCOUNT = "the local account is linked to no other"

LOGS = Service(
    "logs",
    "CloudWatch Logs",
    ("DescribeLogGroups", "DescribeLogStreams"),
    {
        "DescribeLogGroupsRequest": Members(
            "logGroupNamePrefix logGroupNamePattern nextToken limit logGroupClass",
            refused={
                "accountIdentifiers": _ONE_ACCOUNT,
                "includeLinkedAccounts": _ONE_ACCOUNT,
                "logGroupIdentifiers": "use logGroupNamePrefix or logGroupNamePattern",
            },
        ),
        "DescribeLogStreamsRequest": Members(
            "logGroupName logGroupIdentifier logStreamNamePrefix orderBy descending nextToken limit"
        ),
    },
)

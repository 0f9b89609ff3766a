"""Tags of SageMaker's resources in CloudFormation."""

from local_aws.emulator.hosting import Properties, call


def update_tags(arn: str, old: Properties, new: Properties) -> None:
    """Give a resource the tags of its new properties, in place."""
    before, after = ({tag["Key"]: tag["Value"] for tag in each.get("Tags") or []} for each in (old, new))
    if gone := [key for key in before if key not in after]:
        call("SageMaker.DeleteTags", {"ResourceArn": arn, "TagKeys": gone})
    if changed := [{"Key": key, "Value": value} for key, value in after.items() if before.get(key) != value]:
        call("SageMaker.AddTags", {"ResourceArn": arn, "Tags": changed})

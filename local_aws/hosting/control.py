"""The SageMaker control plane: models, endpoint configurations and endpoints."""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local_aws import stand_ins
from local_aws.account import ACCOUNT_ID, REGION, default_cache, write_json
from local_aws.environments import EnvironmentSetupError
from local_aws.hosting import images
from local_aws.hosting.artifacts import ModelDataError, extracted
from local_aws.hosting.errors import ApiError
from local_aws.hosting.fleet import Fleet, VariantFleet
from local_aws.hosting.replica import ReplicaFailedError, ReplicaSpec

Document = dict[str, Any]
_KINDS = {"Model": "model", "EndpointConfig": "endpoint-config", "Endpoint": "endpoint"}
_DEFAULT_START_SECONDS = 300


class ControlPlane:
    """Holds what was created, written to disk at every change, and the fleets that serve it."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._file = state / "hosting.json"
        self._records: dict[str, dict[str, Document]] = {kind: {} for kind in _KINDS}
        self._tags: dict[str, dict[str, str]] = {}
        self.fleets: dict[str, Fleet] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def restore(self) -> None:
        """Reads what an earlier process wrote, and starts its endpoints again."""
        if not self._file.exists():
            return
        content = json.loads(self._file.read_text())
        self._records, self._tags = content["records"], content["tags"]
        for endpoint in self._records["Endpoint"].values():
            if endpoint["EndpointStatus"] != "Failed":
                endpoint["EndpointStatus"] = "Creating"
                self._run(self._deploy(endpoint, endpoint["EndpointConfigName"], None))

    async def close(self) -> None:
        """Stops every replica."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(fleet.stop() for fleet in self.fleets.values()))

    def handle(self, operation: str, request: Document) -> Document:
        """Answers one API call; raises ApiError."""
        handlers: dict[str, Callable[[Document], Document]] = {
            "CreateEndpoint": self._create_endpoint,
            "UpdateEndpoint": self._update_endpoint,
            "DeleteEndpoint": self._delete_endpoint,
            "UpdateEndpointWeightsAndCapacities": self._update_weights,
            "AddTags": self._add_tags,
            "DeleteTags": self._delete_tags,
            "ListTags": self._list_tags,
        }
        if operation in handlers:
            return handlers[operation](request)
        for kind in _KINDS:
            if operation == f"Create{kind}":
                return self._create(kind, request)
            if operation == f"Describe{kind}":
                return dict(self._get(kind, request[f"{kind}Name"]))
            if operation == f"Delete{kind}":
                self._get(kind, request[f"{kind}Name"])
                del self._records[kind][request[f"{kind}Name"]]
                self._save()
                return {}
            if operation == f"List{kind}s":
                return self._list(kind, request)
        raise ApiError("UnknownOperationException", f"the local account does not implement SageMaker {operation}")

    def status(self) -> list[Document]:
        """One row per replica for `inference local status`."""
        return [
            {
                "endpoint": name,
                "status": endpoint["EndpointStatus"],
                "reason": endpoint.get("FailureReason", ""),
                "variants": [
                    {
                        "name": variant.name,
                        "desired": variant.desired,
                        "restarts": variant.restarts,
                        "note": "; ".join(note for note in (variant.spec.image.note, variant.note) if note),
                        "replicas": [
                            {"id": r.id, "pid": r.pid, "ready": r.ready, "started": r.started} for r in variant.replicas
                        ],
                    }
                    for variant in (self.fleets[name].variants.values() if name in self.fleets else [])
                ],
            }
            for name, endpoint in self._records["Endpoint"].items()
        ]

    def endpoint(self, name: str) -> Document:
        """An endpoint's record; raises ApiError as SageMaker words it."""
        return self._get("Endpoint", name)

    def _create(self, kind: str, request: Document) -> Document:
        name = request[f"{kind}Name"]
        arn = _arn(kind, name)
        if name in self._records[kind]:
            raise ApiError(
                "ValidationException", f'Cannot create already existing {_KINDS[kind].replace("-", " ")} "{arn}".'
            )
        if kind == "EndpointConfig":
            for variant in request["ProductionVariants"]:
                self._get("Model", variant["ModelName"])
        record = {key: value for key, value in request.items() if key != "Tags"}
        record |= {f"{kind}Arn": arn, "CreationTime": time.time()}
        self._records[kind][name] = record
        self._tags[arn] = {tag["Key"]: tag["Value"] for tag in request.get("Tags", [])}
        self._save()
        return {f"{kind}Arn": arn}

    def _get(self, kind: str, name: str) -> Document:
        record = self._records[kind].get(name)
        if record is None:
            noun = _KINDS[kind].replace("-", " ")
            raise ApiError("ValidationException", f'Could not find {noun} "{_arn(kind, name)}".')
        return record

    def _list(self, kind: str, request: Document) -> Document:
        rows = [
            record
            for name, record in self._records[kind].items()
            if request.get("NameContains", "") in name
            and request.get("StatusEquals", record.get("EndpointStatus")) == record.get("EndpointStatus")
        ]
        by = {"Name": f"{kind}Name"}.get(request.get("SortBy", "CreationTime"), "CreationTime")
        rows.sort(key=lambda record: record[by], reverse=request.get("SortOrder", "Descending") == "Descending")
        begin = 0
        if token := request.get("NextToken"):
            try:
                begin = int(base64.b64decode(token))
            except ValueError:
                raise ApiError("ValidationException", "NextToken is not one that this list gave") from None
        end = begin + int(request.get("MaxResults", 100))
        members = [f"{kind}Name", f"{kind}Arn", "CreationTime", "LastModifiedTime", "EndpointStatus"]
        answer: Document = {f"{kind}s": [{m: r[m] for m in members if m in r} for r in rows[begin:end]]}
        if end < len(rows):
            answer["NextToken"] = base64.b64encode(str(end).encode()).decode()
        return answer

    def _create_endpoint(self, request: Document) -> Document:
        config = request["EndpointConfigName"]
        self._get("EndpointConfig", config)
        answer = self._create("Endpoint", request)
        endpoint = self._records["Endpoint"][request["EndpointName"]]
        endpoint |= {"EndpointStatus": "Creating", "LastModifiedTime": time.time(), "ProductionVariants": []}
        self._save()
        self._run(self._deploy(endpoint, config, None))
        return answer

    def _update_endpoint(self, request: Document) -> Document:
        endpoint = self._get("Endpoint", request["EndpointName"])
        if endpoint["EndpointStatus"] not in ("InService", "Failed"):
            raise ApiError("ValidationException", f'Cannot update in-progress endpoint "{endpoint["EndpointArn"]}".')
        self._get("EndpointConfig", request["EndpointConfigName"])
        counts = None
        if request.get("RetainAllVariantProperties") and (fleet := self.fleets.get(endpoint["EndpointName"])):
            counts = {name: variant.desired for name, variant in fleet.variants.items()}
        endpoint |= {"EndpointStatus": "Updating", "LastModifiedTime": time.time()}
        endpoint.pop("FailureReason", None)
        self._save()
        self._run(self._deploy(endpoint, request["EndpointConfigName"], counts))
        return {"EndpointArn": endpoint["EndpointArn"]}

    def _delete_endpoint(self, request: Document) -> Document:
        endpoint = self._get("Endpoint", request["EndpointName"])
        if endpoint["EndpointStatus"] in ("Creating", "Updating"):
            raise ApiError("ValidationException", f'Cannot delete in-progress endpoint "{endpoint["EndpointArn"]}".')
        endpoint["EndpointStatus"] = "Deleting"
        self._save()
        self._run(self._remove(endpoint["EndpointName"]))
        return {}

    async def _remove(self, name: str) -> None:
        fleet = self.fleets.pop(name, None)
        if fleet is not None:
            await fleet.stop()
        del self._records["Endpoint"][name]
        self._save()

    async def _deploy(self, endpoint: Document, config_name: str, counts: dict[str, int] | None) -> None:
        """Brings up a new fleet beside the old one and switches over; a failure leaves the old one serving."""
        name = endpoint["EndpointName"]
        config = self._records["EndpointConfig"][config_name]
        old = self.fleets.get(name)
        try:
            variants = [
                await asyncio.to_thread(self._variant, variant, (counts or {}).get(variant["VariantName"]))
                for variant in config["ProductionVariants"]
            ]
            fleet = Fleet(name, self._state, variants, self._save)
            await fleet.start()
        except (ReplicaFailedError, ModelDataError, ApiError) as error:
            endpoint["FailureReason"] = str(error)
            endpoint["EndpointStatus"] = "Failed" if old is None else "InService"
        else:
            self.fleets[name] = fleet
            endpoint["EndpointStatus"] = "InService"
            endpoint["EndpointConfigName"] = config_name
            endpoint["ProductionVariants"] = [self._variant_summary(variant, config) for variant in variants]
            if "DataCaptureConfig" in config:
                endpoint["DataCaptureConfig"] = config["DataCaptureConfig"]
        endpoint["LastModifiedTime"] = time.time()
        self._save()
        if old is not None and self.fleets[name] is not old:
            await old.stop()

    def _variant(self, variant: Document, count: int | None) -> VariantFleet:
        model = self._get("Model", variant["ModelName"])
        container = model.get("PrimaryContainer") or model["Containers"][0]
        uri = container["Image"]
        try:
            image = images.find(self._state, uri) or stand_ins.find(default_cache(), uri)
        except EnvironmentSetupError as error:
            raise ApiError("ValidationException", f"the stand-in for {uri} could not be installed: {error}") from error
        if image is None:
            raise ApiError(
                "ValidationException",
                f"the image {uri} was not pushed to this account; of AWS's own images the local account has stand-ins "
                f"for {', '.join(stand_ins.STAND_INS)} only",
            )
        multi_model = container.get("Mode") == "MultiModel"
        url = container["ModelDataUrl"]
        return VariantFleet(
            name=variant["VariantName"],
            spec=ReplicaSpec(
                image,
                None if multi_model else str(extracted(self._state, url)),
                url if multi_model else None,
                container.get("Environment") or {},
                variant["InstanceType"],
            ),
            desired=count or int(variant.get("InitialInstanceCount", 1)),
            weight=float(variant.get("InitialVariantWeight", 1)),
            start_timeout_seconds=float(
                variant.get("ContainerStartupHealthCheckTimeoutInSeconds", _DEFAULT_START_SECONDS)
            ),
        )

    def _variant_summary(self, variant: VariantFleet, config: Document) -> Document:
        configured = next(v for v in config["ProductionVariants"] if v["VariantName"] == variant.name)
        model = self._get("Model", configured["ModelName"])
        image = (model.get("PrimaryContainer") or model["Containers"][0])["Image"]
        return {
            "VariantName": variant.name,
            "DeployedImages": [{"SpecifiedImage": image, "ResolvedImage": image, "ResolutionTime": time.time()}],
            "CurrentWeight": variant.weight,
            "DesiredWeight": variant.weight,
            "CurrentInstanceCount": len(variant.ready),
            "DesiredInstanceCount": variant.desired,
        }

    def _update_weights(self, request: Document) -> Document:
        endpoint = self._get("Endpoint", request["EndpointName"])
        fleet = self.fleets.get(endpoint["EndpointName"])
        if endpoint["EndpointStatus"] != "InService" or fleet is None:
            raise ApiError("ValidationException", f'Cannot update in-progress endpoint "{endpoint["EndpointArn"]}".')
        for change in request["DesiredWeightsAndCapacities"]:
            if change["VariantName"] not in fleet.variants:
                raise ApiError("ValidationException", f"Variant {change['VariantName']} does not exist")
        endpoint["EndpointStatus"] = "Updating"
        self._run(self._apply_weights(endpoint, fleet, request["DesiredWeightsAndCapacities"]))
        return {"EndpointArn": endpoint["EndpointArn"]}

    async def _apply_weights(self, endpoint: Document, fleet: Fleet, changes: list[Document]) -> None:
        try:
            for change in changes:
                variant = fleet.variants[change["VariantName"]]
                variant.weight = float(change.get("DesiredWeight", variant.weight))
                await fleet.resize(variant.name, int(change.get("DesiredInstanceCount", variant.desired)))
        except ReplicaFailedError as error:
            endpoint["FailureReason"] = str(error)
        config = self._records["EndpointConfig"][endpoint["EndpointConfigName"]]
        endpoint["ProductionVariants"] = [self._variant_summary(v, config) for v in fleet.variants.values()]
        endpoint["EndpointStatus"] = "InService"
        endpoint["LastModifiedTime"] = time.time()
        self._save()

    def _add_tags(self, request: Document) -> Document:
        tags = self._tags.setdefault(request["ResourceArn"], {})
        tags |= {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        self._save()
        return self._list_tags(request)

    def _delete_tags(self, request: Document) -> Document:
        for key in request["TagKeys"]:
            self._tags.get(request["ResourceArn"], {}).pop(key, None)
        self._save()
        return {}

    def _list_tags(self, request: Document) -> Document:
        tags = self._tags.get(request["ResourceArn"], {})
        return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def _run(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _save(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            write_json(self._file, {"records": self._records, "tags": self._tags})


def _arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT_ID}:{_KINDS[kind]}/{name}"

"""Data capture: a sample of an endpoint's requests and responses, written to S3 in the format of Model Monitor."""

import asyncio
import base64
import json
import logging
import random
import uuid
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local_aws.hosting.artifacts import s3_client
from local_aws.hosting.s3_urls import S3Location

logger = logging.getLogger("capture")
Document = dict[str, Any]
WRITE_SECONDS = 5.0
_MAX_PENDING_BYTES = 64 * 2**20
"""Limit on captured data that is not in S3 yet; more is dropped, as SageMaker drops it when its disk is full."""


@dataclass(frozen=True, slots=True)
class Payload:
    """A body and its content type."""

    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """One successful invocation of a variant."""

    endpoint: str
    variant: str
    request: Payload
    response: Payload
    inference_id: str | None = None
    custom_attributes: str | None = None


@dataclass(frozen=True, slots=True)
class _Target:
    """Folder in S3 that captured data of one variant and hour goes to, and the key that encrypts it."""

    folder: str
    key: str | None


class DataCapture:
    """Recorder of exchanges, by the DataCaptureConfig of their endpoints."""

    def __init__(self) -> None:
        self._pending: defaultdict[_Target, list[str]] = defaultdict(list)
        self._bytes = 0

    def record(self, config: Document | None, exchange: Exchange) -> None:
        """Keep an exchange for the next write, if its endpoint captures and the sample includes it."""
        if config is None or not enabled(config) or random.random() * 100 >= config["InitialSamplingPercentage"]:
            return
        now = datetime.now(UTC)
        line = json.dumps(_event(config, exchange, now))
        if self._bytes + len(line) > _MAX_PENDING_BYTES:
            logger.warning("captured data of endpoint %s is dropped: S3 takes it too slowly", exchange.endpoint)
            return
        folder = f"{config['DestinationS3Uri'].rstrip('/')}/{exchange.endpoint}/{exchange.variant}/{now:%Y/%m/%d/%H}"
        self._pending[_Target(folder, config.get("KmsKeyId"))].append(line)
        self._bytes += len(line)

    async def write_forever(self) -> None:
        """Write once per period, for as long as the process runs."""
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write everything that was recorded since the last write; what S3 refuses is dropped with a warning."""
        pending, self._pending = self._pending, defaultdict(list)
        self._bytes = 0
        for target, lines in pending.items():
            try:
                await asyncio.to_thread(_store, target, lines)
            except (ClientError, BotoCoreError) as error:
                logger.warning("%d captured requests were not stored in %s: %s", len(lines), target.folder, error)


def enabled(config: Document) -> bool:
    """Return whether a DataCaptureConfig captures anything; without EnableCapture it does."""
    return bool(config.get("EnableCapture", True))


def summary(config: Document) -> Document:
    """Return how DescribeEndpoint shows a DataCaptureConfig."""
    capturing = enabled(config)
    return {
        "EnableCapture": capturing,
        "CaptureStatus": "Started" if capturing else "Stopped",
        "CurrentSamplingPercentage": config["InitialSamplingPercentage"],
        "DestinationS3Uri": config["DestinationS3Uri"],
        "KmsKeyId": config.get("KmsKeyId", ""),
    }


def _event(config: Document, exchange: Exchange, now: datetime) -> Document:
    modes = " ".join(option["CaptureMode"] for option in config["CaptureOptions"])
    headers = config.get("CaptureContentTypeHeader") or {}
    metadata: Document = {"eventId": str(uuid.uuid4()), "inferenceTime": f"{now:%Y-%m-%dT%H:%M:%SZ}"}
    if exchange.inference_id:
        metadata["inferenceId"] = exchange.inference_id
    if exchange.custom_attributes:
        metadata["customAttributes"] = [exchange.custom_attributes]
    captured: Document = {}
    if "Input" in modes:
        captured["endpointInput"] = _side(exchange.request, "INPUT", headers)
    if "Output" in modes:
        captured["endpointOutput"] = _side(exchange.response, "OUTPUT", headers)
    return {"captureData": captured, "eventMetadata": metadata, "eventVersion": "0"}


def _side(payload: Payload, mode: str, headers: Document) -> Document:
    """Return one side of an exchange: as text for the content types that the configuration names, else in Base64."""
    kind = payload.content_type.partition(";")[0].strip()
    encoding, data = "BASE64", base64.b64encode(payload.body).decode()
    for name, member in (("CSV", "CsvContentTypes"), ("JSON", "JsonContentTypes")):
        if kind in headers.get(member, ()):
            encoding, data = name, payload.body.decode(errors="replace")
    return {"observedContentType": payload.content_type, "mode": mode, "data": data, "encoding": encoding}


def _store(target: _Target, lines: list[str]) -> None:
    location = S3Location.parse(target.folder)
    key = f"{location.key}/{datetime.now(UTC):%M-%S-%f}-{uuid.uuid4()}.jsonl"
    encryption: Document = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": target.key} if target.key else {}
    body = "".join(f"{line}\n" for line in lines).encode()
    s3_client().put_object(Bucket=location.bucket, Key=key, Body=body, **encryption)

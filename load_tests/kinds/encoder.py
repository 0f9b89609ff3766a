"""The kind `encoder` in load tests and reports."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from load_tests.closed_loop import Request
from load_tests.deployed import DeployedWorkload
from load_tests.kinds.base import Described, Summary, WorkloadKind, summary_below
from load_tests.payloads import encoder
from load_tests.report.model import Quality
from sizing.facts import Facts
from stacks.naming import camel
from stacks.settings.encoder import Encoder

_ENGINES = {"vnni": "VNNI", "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime", "ipex": "IPEX"}


class EncoderKind(WorkloadKind[Encoder]):
    """Question answering: every model has its own group of candidates."""

    question: ClassVar[str] = "Which precision, on which instance?"
    facts: ClassVar[Facts] = Facts(payload_mib=0.01, memory_gib=1.0)

    def requests(self, workload: DeployedWorkload[Encoder], key: str) -> list[Request]:
        """Return the project's own questions."""
        del workload, key
        return encoder.requests()

    def summaries(self, workload: DeployedWorkload[Encoder]) -> dict[str, Summary]:
        """Return the summary of every model's build."""
        return {
            model: summary_below(workload.outputs[f"{camel(model)}Artifacts"]) for model in workload.settings.models
        }

    def qualities(self, summary: Summary) -> dict[str, Quality]:
        """Return F1 by precision; nothing for random weights."""
        accuracy = summary["accuracy"]
        if accuracy is None:
            return {}
        reference = accuracy["fp32"]["f1"]
        return {
            precision: Quality(
                metric="F1",
                value=accuracy[precision]["f1"],
                reference=reference,
                kept=accuracy[precision]["f1"] / reference,
                samples=accuracy["questions"],
                passed=True,
            )
            for precision in ("fp32", "int8")
        }

    def describe(self, settings: Encoder, key: str, variant: str | None, summaries: Mapping[str, Summary]) -> Described:
        """Return engine and precision of a variant, and its F1."""
        endpoint = settings.endpoints[key]
        precision = endpoint.variants[variant or ""].precision
        summary = summaries[endpoint.model]
        engine = summary["engines"][precision]
        quality = self.qualities(summary).get(precision)
        return Described(f"{_ENGINES[engine]} {precision.upper()}", quality)

    def groups(self, settings: Encoder, keys: Sequence[str]) -> list[Sequence[str]]:
        """Return the endpoints of each model together."""
        models = dict.fromkeys(settings.endpoints[key].model for key in keys)
        return [[key for key in keys if settings.endpoints[key].model == model] for model in models]

    def title(self, name: str, settings: Encoder, keys: Sequence[str]) -> str:
        """Return workload and model."""
        return f"{name}, {settings.endpoints[keys[0]].model}"

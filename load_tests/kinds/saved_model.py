"""The kind `saved_model` in load tests and reports."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from load_tests.closed_loop import Request
from load_tests.deployed import DeployedWorkload, read_bytes
from load_tests.kinds.base import Described, Summary, WorkloadKind, summary_below
from load_tests.report.model import Quality
from sizing.facts import Facts
from stacks.settings.saved_model import SavedModel

if TYPE_CHECKING:
    from load_tests.payloads.saved_model import Form, Sample

SAME_MASK_IOU = 0.99
"""Intersection over union from which two masks count as the same response."""


class SavedModelKind(WorkloadKind[SavedModel]):
    """Images and their masks, one network on every endpoint's own server."""

    question: ClassVar[str] = "Which server?"
    # An image as npy, which is larger than as PNG.
    facts: ClassVar[Facts] = Facts(payload_mib=0.6, memory_gib=1.0)

    def requests(self, workload: DeployedWorkload[SavedModel], key: str) -> list[Request]:
        """Return images of the build's test share in the form that the endpoint takes fastest."""
        return self.requests_in(workload, fastest_form(workload.settings, key))

    def requests_in(self, workload: DeployedWorkload[SavedModel], form: "Form") -> list[Request]:
        """Return images of the build's test share in a form."""
        from load_tests.payloads import saved_model

        return saved_model.requests(self.samples(workload), form)

    def samples(self, workload: DeployedWorkload[SavedModel]) -> "list[Sample]":
        """Return images and masks of the build's test share."""
        # Pillow comes with the extra `unet`.
        from load_tests.payloads import saved_model

        return saved_model.read_samples(read_bytes(f"{workload.outputs['Artifacts']}samples.zip"))

    def same_response(self, given: bytes, expected: bytes) -> bool:
        """Return whether two responses in JSON have the same mask."""
        from load_tests.payloads import saved_model

        masks = [saved_model.answered_mask(response, "json") for response in (given, expected)]
        return saved_model.iou(*masks) >= SAME_MASK_IOU

    def summaries(self, workload: DeployedWorkload[SavedModel]) -> dict[str, Summary]:
        """Return the summary of the one build."""
        return {"": summary_below(workload.outputs["Artifacts"])}

    def qualities(self, summary: Summary) -> dict[str, Quality]:
        """Return IoU by archive."""
        return {name: _iou(scores) for name, scores in summary["accuracy"].items()}

    def describe(
        self, settings: SavedModel, key: str, variant: str | None, summaries: Mapping[str, Summary]
    ) -> Described:
        """Return the server of an endpoint, and the IoU of its archive."""
        del variant
        endpoint = settings.endpoints[key]
        names = {"openvino": f"OpenVINO {(endpoint.precision or '').upper()}", "neo": "Neo"}
        what = names.get(endpoint.server, "TensorFlow Serving")
        return Described(what, self.qualities(summaries[""]).get(endpoint.artifact))

    def caveats(self, settings: SavedModel, keys: Sequence[str], *, local: bool) -> list[str]:
        """Say which servers are fakes locally, and that endpoints are sent different forms."""
        found = []
        if local and any(settings.endpoints[key].server != "openvino" for key in keys):
            found.append("Here TensorFlow Serving and Neo are this project's fakes.")
        forms = {key: fastest_form(settings, key) for key in keys}
        if len(set(forms.values())) > 1:
            sent = ", ".join(f"{form} to {key}" for key, form in forms.items())
            found.append(
                f"Each endpoint is sent images in the form that it takes fastest ({sent}): part of the difference."
            )
        return found


def fastest_form(settings: SavedModel, key: str) -> "Form":
    """Return the form in which an endpoint takes images fastest."""
    server = settings.endpoints[key].server
    if server == "openvino":
        return "npy"
    return "png" if server == "tensorflow_serving" and settings.recipe.png_signature else "json"


def _iou(scores: Mapping[str, Any]) -> Quality:
    return Quality(
        metric="IoU",
        value=scores["artifact"]["iou"],
        reference=scores["fp32"]["iou"],
        kept=scores["iou_ratio"],
        samples=scores["artifact"]["images"],
        passed=True,
    )

"""Every kind of workload, as load tests, sizing and reports see it."""

from collections.abc import Mapping
from typing import Any

from load_tests.kinds.base import WorkloadKind
from load_tests.kinds.encoder import EncoderKind
from load_tests.kinds.neuron_encoder import NeuronEncoderKind
from load_tests.kinds.saved_model import SavedModelKind
from load_tests.kinds.tabular import TabularKind

KINDS: Mapping[str, WorkloadKind[Any]] = {
    "encoder": EncoderKind(),
    "neuron_encoder": NeuronEncoderKind(),
    "saved_model": SavedModelKind(),
    "tabular": TabularKind(),
}
"""By kind, as in `stacks.settings.kinds.KINDS`."""

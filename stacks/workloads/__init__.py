"""The stack of every kind of workload."""

from collections.abc import Mapping
from typing import Any

from stacks.workloads.base import WorkloadStack
from stacks.workloads.encoder import EncoderStack
from stacks.workloads.neuron_encoder import NeuronEncoderStack
from stacks.workloads.saved_model import SavedModelStack
from stacks.workloads.tabular import TabularStack

STACKS: Mapping[str, type[WorkloadStack[Any]]] = {
    "encoder": EncoderStack,
    "neuron_encoder": NeuronEncoderStack,
    "saved_model": SavedModelStack,
    "tabular": TabularStack,
}
"""By kind, as in `stacks.settings.kinds.KINDS`."""

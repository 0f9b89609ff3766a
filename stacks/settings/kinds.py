"""The kinds of workload that a deployment file may name."""

import functools
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from stacks.settings.encoder import Encoder
from stacks.settings.neuron_encoder import NeuronEncoder
from stacks.settings.saved_model import SavedModel
from stacks.settings.tabular import Tabular
from stacks.settings.workload import Workload

KINDS: Mapping[str, type[Workload]] = {
    "encoder": Encoder,
    "neuron_encoder": NeuronEncoder,
    "saved_model": SavedModel,
    "tabular": Tabular,
}
"""Settings by kind; the kind's stack is in `stacks.workloads.STACKS`."""

if TYPE_CHECKING:
    AnyWorkload = Workload
else:
    AnyWorkload = Annotated[functools.reduce(operator.or_, KINDS.values()), Field(discriminator="kind")]

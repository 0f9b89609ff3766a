"""The requests of the neuron_encoder workload, and the places of its copies: the questions are encoder's."""

from collections.abc import Iterable

from load_tests.encoder import requests

__all__ = ["WORKLOAD", "pairs", "requests"]

WORKLOAD = "neuron_encoder"


def pairs(cores: Iterable[int], models: int) -> tuple[str, ...]:
    """The path of every copy of the model on every NeuronCore, as published."""
    return tuple(f"/predictions_neuron_core_{core}/model_{model}" for core in cores for model in range(models))

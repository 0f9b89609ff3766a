"""The requests of the bert_neuron workload, and the places of its copies: the questions are bert_int8's."""

from collections.abc import Iterable

from load_tests.bert_int8 import requests

__all__ = ["WORKLOAD", "pairs", "requests"]

WORKLOAD = "bert_neuron"


def pairs(cores: Iterable[int], models: int) -> tuple[str, ...]:
    """The path of every copy of the model on every NeuronCore, as published."""
    return tuple(f"/predictions_neuron_core_{core}/model_{model}" for core in cores for model in range(models))

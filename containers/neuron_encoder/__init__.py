"""The neuron_encoder image: BERT question answering on NeuronCores, with one process per group of cores."""

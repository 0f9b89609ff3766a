"""The neuron_encoder image: BERT question answering on NeuronCores, one process for each group of cores."""

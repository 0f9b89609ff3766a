"""The bert_neuron image: BERT question answering on NeuronCores, one process for each group of cores."""

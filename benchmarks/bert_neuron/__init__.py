"""bert_neuron's server beside the published pattern, on timed virtual NeuronCores."""

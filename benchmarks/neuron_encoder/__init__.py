"""neuron_encoder's server beside the published pattern, on timed virtual NeuronCores."""

"""Compare neuron_encoder's server with the published pattern, on timed virtual NeuronCores."""

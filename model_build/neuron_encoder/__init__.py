"""The build of the neuron_encoder workload: traces BERT for NeuronCores in buckets of length and batch."""

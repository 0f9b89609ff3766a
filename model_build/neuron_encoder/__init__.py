"""Traces BERT for NeuronCores, in buckets of length and batch, and packs what was traced."""

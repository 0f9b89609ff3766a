"""Builds the FP32 and INT8 artifacts of the BERT question-answering workload."""

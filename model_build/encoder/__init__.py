"""The build of the encoder workload: FP32 and INT8 artifacts of a BERT question-answering model."""

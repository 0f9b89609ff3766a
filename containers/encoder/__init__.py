"""The encoder image: extractive question answering with BERT encoders, in FP32 and INT8."""

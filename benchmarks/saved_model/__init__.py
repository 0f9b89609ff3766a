"""Compare the best TensorFlow setting that the tuner finds with OpenVINO INT8, from the same weights."""

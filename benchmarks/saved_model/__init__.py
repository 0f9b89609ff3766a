"""saved_model: the best TensorFlow setting that the tuner finds beside OpenVINO INT8, from the same weights."""

"""Builds a U-Net for segmentation: data, training, TensorFlow and OpenVINO artifacts, accuracy gate, packaging."""

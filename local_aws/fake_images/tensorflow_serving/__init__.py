"""Fake of SageMaker's TensorFlow Serving container: the same settings, ports and API on plain TensorFlow.

It is not TensorFlow Serving, and its measurements say nothing about TensorFlow Serving.
"""

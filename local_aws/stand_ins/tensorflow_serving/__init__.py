"""A stand-in for SageMaker's TensorFlow Serving container: the same settings, ports and API on plain TensorFlow.

It is not TensorFlow Serving, and its figures are not TensorFlow Serving's.
"""

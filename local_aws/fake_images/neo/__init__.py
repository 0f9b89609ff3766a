"""Fake SageMaker Neo compiler: TensorFlow's own optimizer, for inputs of one fixed shape.

It is not Neo, and its output is neither faster nor slower because of it.
"""

"""A stand-in for SageMaker Neo's compiler: TensorFlow's own optimizer, for inputs of one fixed shape.

It is not Neo, and what it makes is neither faster nor slower for being made by it.
"""

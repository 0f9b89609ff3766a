"""Other servers of the same OpenVINO model, each written as its documentation shows."""

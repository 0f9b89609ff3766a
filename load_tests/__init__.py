"""Load tests: drive endpoints and measure what their clients see."""

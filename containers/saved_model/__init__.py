"""Segments images with a U-Net on OpenVINO, in INT8, BF16 and FP32."""

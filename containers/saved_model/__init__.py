"""The saved_model image: image segmentation with a U-Net on OpenVINO, in INT8, BF16 and FP32."""

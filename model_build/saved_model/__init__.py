"""The build of the saved_model workload: trains, exports, gates and packages a U-Net for segmentation."""

"""Two dual-pixel cameras on one holder: calibrated, rectified, and labelled with metric depth by stereo."""

"""Line-side PCBA inspection with HiSIR-Net."""

__version__ = "0.1.0"

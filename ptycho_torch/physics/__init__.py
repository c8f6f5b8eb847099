"""The optics: patches on a canvas, the probe, propagation to the detector, and simulated scans."""

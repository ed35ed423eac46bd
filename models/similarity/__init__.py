"""Models of similarity: an index that grows, Siamese networks, DSSM, calibration."""

"""Learning without labels: SimCLR, BYOL, SwAV, VICReg and their views."""

"""`midspan calibrate`: the threshold and the confidence, fitted again to what one person takes."""

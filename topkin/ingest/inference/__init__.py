"""What a stranger's tables hold: read from footers and samples, told and written as a configuration."""

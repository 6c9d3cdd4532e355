"""The RFCs, function by function."""

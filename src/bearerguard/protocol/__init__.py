"""The RFCs as pure functions, one subject a file: no clock, no I/O."""

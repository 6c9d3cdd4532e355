"""What holds for every input: parsers never crash, builders round-trip, alterations are refused."""

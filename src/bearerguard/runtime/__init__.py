"""What every role runs on: flows and their drivers, messages, clocks, sealing. No role, no RFC."""

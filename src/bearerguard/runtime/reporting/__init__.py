"""What is reported to an operator: events, limits of log lines, outages, durations in words."""

"""The parts of the benchmark; each is `run(effort) -> Result` in a module of its own."""

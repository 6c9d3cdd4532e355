"""The commands that explain refusals, show the configuration and examine issuers and APIs."""

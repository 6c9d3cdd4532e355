"""Where tokens are kept: memory, an encrypted file, the keyring, the environment."""

"""The only sockets: handlers of the effects that need the network."""

"""The only sockets: handlers of the effects that use the network."""

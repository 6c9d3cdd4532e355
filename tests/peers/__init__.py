"""The main job against programs that nobody here wrote: a certified issuer, servers, a browser."""

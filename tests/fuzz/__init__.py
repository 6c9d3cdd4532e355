"""Fuzz targets: what holds for any octets that somebody sends, one target for each parser."""

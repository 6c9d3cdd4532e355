"""What a hostile user, client, neighbour or page tries, and how it fails."""

"""Where tokens come from: the grants that need nobody at the screen."""

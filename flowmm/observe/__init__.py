"""Where reference queries and attention statistics come from."""

"""What is done to this host: the only place that runs commands and mounts."""

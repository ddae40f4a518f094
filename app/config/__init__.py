"""plant.yaml: read with line numbers, checked whole, compared with what is in force."""

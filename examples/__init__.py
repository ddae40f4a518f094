"""Plants to try Headrace on: real protocols, simulated processes, models trained on them. The product never imports this."""

"""Plants to try Headrace on: real protocols, simulated processes, trained models. The product never imports this."""

"""How a net goes over its data: batches, epochs, history, stopping, optimizers."""

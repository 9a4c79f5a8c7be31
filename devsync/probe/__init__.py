"""What the machine does: one module for each kind of work, and the sampler that asks them."""

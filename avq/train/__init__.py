"""How anything is trained: the protocol of a task, step, gradients, state, loop."""

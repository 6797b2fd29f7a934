"""Learning without solution data: families of initial conditions, the objective, one step."""

"""A cell as a dynamical system: Jacobians, fixed points, Lyapunov exponents."""

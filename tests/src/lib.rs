//! Scenarios over the running binaries, a real PostgreSQL and the simulator.

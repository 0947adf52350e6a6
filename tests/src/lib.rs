//! The whole network under test: simulator, adversaries, real processes.

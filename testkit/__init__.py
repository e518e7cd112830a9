"""What tests, benchmarks and services of other teams use to run this system for real."""

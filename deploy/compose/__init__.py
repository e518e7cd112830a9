"""The files that docker-compose.yml needs: secrets, and Prometheus's configuration."""

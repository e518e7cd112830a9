"""What docker-compose.yml needs beside itself: the files of its secrets."""

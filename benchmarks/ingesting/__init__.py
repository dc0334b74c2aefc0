"""The parts of `benchmarks/ingest.py`: both servers, the bodies, the client, and what is read off the disk."""

"""`midspan replay`: a simulated person types files through the real server; for tests of clients and models, too."""

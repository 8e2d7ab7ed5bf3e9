"""The rows of the paper, each run through the service: what it says beside what comes out here."""

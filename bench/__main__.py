"""`python -m bench --data FOLDER`: run the benchmarks, store every run, and write the tables of README.md."""

import argparse
from pathlib import Path

from bench import lenet5_mnist, readme


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four MNIST IDX files, gzipped or not")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds for each row")
    arguments = parser.parse_args()
    lenet5_mnist.run(arguments.data, list(range(arguments.seeds)))
    readme.write()


if __name__ == "__main__":
    main()

"""The tasks that are known by name."""

from bench.accuracy.digits import DIGITS
from bench.accuracy.mnist import MNIST
from bench.accuracy.problem import Problem

PROBLEMS: dict[str, Problem] = {problem.name: problem for problem in (MNIST, DIGITS)}

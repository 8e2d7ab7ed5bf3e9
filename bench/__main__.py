"""`python -m bench NAME`: run a benchmark, store every run, and write its tables.

What one benchmark imports is not needed for the others, so each is imported only when it runs.
"""

import argparse
from pathlib import Path


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Run a benchmark.")
    names = parser.add_subparsers(required=True)
    mnist = names.add_parser("lenet5-mnist", help="LeNet-5 on MNIST through the running service")
    mnist.add_argument("--data", type=Path, required=True, help="folder with the four MNIST IDX files, gzipped or not")
    mnist.add_argument("--seeds", type=int, default=3, help="number of seeds for each row")
    mnist.set_defaults(run=lenet5_mnist)
    contraction = names.add_parser("contraction", help="decoding and its gradient, next to the common ways")
    contraction.add_argument("--sites", type=int, nargs="+", help="only these sizes; prints, and stores nothing")
    contraction.set_defaults(run=contraction_and_peers)
    accuracy = names.add_parser("accuracy", help="a LeNet-5 at every budget, next to other factorisations")
    accuracy.add_argument("--task", choices=["mnist", "digits"], default="mnist", help="what is learned")
    accuracy.add_argument("--data", type=Path, help="for mnist: folder with the four IDX files")
    accuracy.add_argument("--methods", type=_names, help="only these, separated by commas")
    accuracy.add_argument("--budgets", type=_numbers, help="only these")
    accuracy.add_argument("--seeds", type=_numbers, help="only these")
    accuracy.add_argument("--epochs", type=int, help="of training")
    accuracy.add_argument("--jobs", type=int, help="processes of one thread each")
    accuracy.add_argument("--tune-only", action="store_true", help="only the choices; the test images are not read")
    accuracy.add_argument("--images", type=int, help="a trial with so few images; it is stored apart from the results")
    accuracy.set_defaults(run=accuracy_at_budgets)
    step = names.add_parser("training-step", help="a step of fine-tuning, encoded over dense")
    step.set_defaults(run=training_step)
    tuning = names.add_parser("fine-tuning", help="two linear layers of a VGG-16, with and without ADTNs and cache")
    tuning.set_defaults(run=fine_tuning)
    paper = names.add_parser("paper", help="the rows of the paper through the running service")
    paper.add_argument("--mnist", type=Path, help="folder with the four MNIST IDX files, gzipped or not")
    paper.add_argument("--cifar-10", type=Path, help="the archive, Python or binary version")
    paper.add_argument("--cifar-100", type=Path, help="the archive, Python or binary version")
    paper.add_argument("--rows", type=_names, help="only these, separated by commas")
    paper.add_argument("--seeds", type=int, default=1, help="number of seeds for each row")
    paper.add_argument("--images", type=int, help="a trial: so few images, narrow networks, stored apart")
    paper.add_argument("--original", type=Path, help="your own state_dict for the rows named; results are stored apart")
    paper.add_argument("--mean", type=_floats, help="that your original expects its inputs to be normalised by")
    paper.add_argument("--std", type=_floats, help="likewise, a number a channel")
    paper.set_defaults(run=rows_of_the_paper)
    bits = names.add_parser("gate-bits", help="accuracy and bytes of gates in few bits, on the digits of scikit-learn")
    bits.set_defaults(run=gate_bits)
    exports = names.add_parser("exports", help="bytes and latency of what a job exports")
    exports.add_argument("--networks", type=_names, default=("lenet5",), help="lenet5, vgg16, with commas")
    exports.set_defaults(run=exported_forms)
    published = names.add_parser("published", help="models that others trained, through the running service")
    published.add_argument("--models", type=_names, help="only these, separated by commas")
    published.set_defaults(run=published_models)
    arguments = parser.parse_args()
    arguments.run(arguments)


def lenet5_mnist(arguments: argparse.Namespace) -> None:
    """Run it and write the table of README.md."""
    from bench import lenet5_mnist, readme

    lenet5_mnist.run(arguments.data, list(range(arguments.seeds)))
    readme.write()


def contraction_and_peers(arguments: argparse.Namespace) -> None:
    """Run it and, if all of it ran, write its page; fail where a goal was missed."""
    from bench.contraction import run

    missed = run.run(arguments.sites)
    if arguments.sites is None:
        from bench.contraction import page

        page.write()
    if missed:
        raise SystemExit("\n".join(missed))


def accuracy_at_budgets(arguments: argparse.Namespace) -> None:
    """Make the runs that are missing and write the page."""
    from bench.accuracy import page, run
    from bench.accuracy.problems import PROBLEMS
    from bench.accuracy.tuning import Setting

    problem = PROBLEMS[arguments.task]
    given = {name: getattr(arguments, name) for name in ("methods", "jobs")}
    wanted = run.Wanted(
        Setting(arguments.epochs or problem.epochs, arguments.images, problem.tuning_epochs, problem.name),
        arguments.budgets or problem.budgets,
        arguments.seeds or problem.seeds,
        arguments.data,
        tune_only=arguments.tune_only,
        **{name: value for name, value in given.items() if value is not None},
    )
    run.run(wanted)
    if arguments.images is None:
        page.write(problem.name, wanted.setting.epochs)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _floats(text: str) -> list[float]:
    return [float(number) for number in text.split(",")]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def training_step(_arguments: argparse.Namespace) -> None:
    """Run it and write its page."""
    from bench import training_step

    training_step.run()


def fine_tuning(_arguments: argparse.Namespace) -> None:
    """Run it and write its table."""
    from bench import fine_tuning

    fine_tuning.run()


def rows_of_the_paper(arguments: argparse.Namespace) -> None:
    """Run the rows that are missing and write their tables; fail where one failed or has more numbers than allowed."""
    from bench.paper import page, run
    from bench.paper.rows import ROWS, named

    given = {"mnist": arguments.mnist, "cifar-10": arguments.cifar_10, "cifar-100": arguments.cifar_100}
    try:
        rows = ROWS if arguments.rows is None else named(arguments.rows)
    except ValueError as error:
        raise SystemExit(f"--rows: {error}") from None
    sources = {name: path for name, path in given.items() if path is not None}
    if arguments.rows is not None and (lacking := [row for row in rows if row.source not in sources]):
        raise SystemExit("\n".join(f"--rows {row.name}: expected {row.option}" for row in lacking))
    if arguments.original is not None and (arguments.rows is None or not arguments.original.is_file()):
        raise SystemExit("--original: expected a file, and --rows that name what it is the original of")
    mean, std = arguments.mean or [], arguments.std or []
    if len(mean) != len(std) or (mean and arguments.original is None):
        raise SystemExit("--mean: expected --original, and --std with as many numbers")
    normalize = {"mean": mean, "std": std} if mean else None
    wanted = run.Wanted(sources, rows, range(arguments.seeds), arguments.images, arguments.original, normalize)
    missed = run.run(wanted)
    if not wanted.is_apart:
        page.write()
    if missed:
        raise SystemExit("\n".join(missed))


def gate_bits(_arguments: argparse.Namespace) -> None:
    """Run it and write its table."""
    from bench import gate_bits

    gate_bits.run()


def exported_forms(arguments: argparse.Namespace) -> None:
    """Run it and write its table."""
    from bench import exports

    exports.run(list(arguments.networks))


def published_models(arguments: argparse.Namespace) -> None:
    """Run it and write its page."""
    from bench.published import page, run

    run.run(arguments.models)
    page.write()


if __name__ == "__main__":
    main()

"""`adtn compress CHECKPOINT`: the whole way in one command."""

from pathlib import Path
from typing import Annotated

import typer

from adtn_client.commands import job_settings, output, server
from adtn_client.commands.progress import display
from adtn_client.commands.report_view import show_report
from adtn_client.commands.submit import Request, compress_and_wait, submit
from jobs.schemas.settings import Activation, Dense, Precision, Schedule


def compress(  # noqa: PLR0913 - each is an option of the command line
    checkpoint: Annotated[
        str, typer.Argument(help="A .safetensors, .pt, .pth or .pt2 file, an archive of shards, or the id of a file.")
    ],
    arch: Annotated[
        str | None,
        typer.Option(
            help="Architecture by name, or LIBRARY/NAME; without one, weights that bring no graph are only fitted."
        ),
    ] = None,
    arch_config: Annotated[
        Path | None,
        typer.Option(help="The config.json of an architecture transformers/NAME."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="A data set: a file, the id of one, or a name.")] = None,
    resize: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH in pixels that the images of the data set are stretched to.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="Mean of each channel, with commas, after pixels are scaled to 0 to 1.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Standard deviation of each channel, likewise.")] = None,
    layers: Annotated[
        str | None,
        typer.Option(help='Names or globs with commas between them, or "auto". Joined by +, they are one network.'),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="parameters=N or ratio=X, of the encoded layers together; N alone is parameters. "
            "max_accuracy_drop=P: the smallest model within P percentage points."
        ),
    ] = None,
    max_trials: Annotated[int | None, typer.Option(help="Most sizes tried for max_accuracy_drop.")] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(help="Most minutes of the whole search: measuring layers, the control, and all trials."),
    ] = None,
    depth: Annotated[str | None, typer.Option(help='TN layers of each structure, or "auto".')] = None,
    gate_sites: Annotated[str | None, typer.Option(help='Sites that a gate acts on, or "auto".')] = None,
    activation: Annotated[Activation | None, typer.Option(help="Between TN layers.")] = None,
    gate_bits: Annotated[
        int | None, typer.Option(help="Bits of each stored number of the gates, 2 to 8; by default they are floats.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of fine-tuning.")] = None,
    natural_epochs: Annotated[
        int | None, typer.Option(help="The last epochs, with steps along the natural gradient; for few numbers only.")
    ] = None,
    teacher_epochs: Annotated[
        int | None, typer.Option(help="Epochs of training the original further before it is compressed.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate of fine-tuning.")] = None,
    gate_lr: Annotated[str | None, typer.Option(help='Learning rate of the gates in fine-tuning, or "auto".')] = None,
    schedule: Annotated[Schedule | None, typer.Option(help="Of the learning rates of fine-tuning.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Batch size of fine-tuning.")] = None,
    accumulate: Annotated[
        int | None, typer.Option(help="Micro-batches of each step: less memory for the same gradient.")
    ] = None,
    dense: Annotated[
        Dense | None,
        typer.Option(help="Whether fine-tuning trains what stayed dense too. freeze: the gates alone."),
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Of the network's own layers in fine-tuning; what is stored keeps its own.")
    ] = None,
    distill: Annotated[
        bool | None, typer.Option("--distill/--no-distill", help="Imitate the outputs of the original too.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Softens the outputs that are imitated.")] = None,
    crop: Annotated[
        int | None, typer.Option(help="Pixels of black around the training images, of which random crops are taken.")
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Mirror half of the training images, left to right.")] = False,
    rotate: Annotated[
        float | None, typer.Option(help="Turn each training image by an angle of at most so many degrees.")
    ] = None,
    stretch: Annotated[
        float | None,
        typer.Option(help="Stretch or press height and width of each training image by at most such a part, 0 to 0.5."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the fit.")] = None,
    fit_lr: Annotated[float | None, typer.Option(help="Learning rate of the fit.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes a job repeatable.")] = None,
    exports: Annotated[
        str | None, typer.Option(help="What to make, with commas: adtn,dense,dense_pt,onnx,pt2.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Names the job.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the artifacts; made if missing.", file_okay=False)] = Path(
        "compressed"
    ),
    detach: Annotated[
        bool, typer.Option("--detach", help="Do not wait: print the job's id and let it run on the server.")
    ] = False,
    url: server.Url = server.DEFAULT_URL,
    api_key: server.ApiKey = None,
) -> None:
    """Upload a checkpoint, compress it, download the artifacts and print the report.

    What is not given has the server's default. Ctrl-C cancels the job on the server too, unless it was started with
    --detach.
    """
    settings = job_settings.without_unset(
        {
            "architecture": arch,
            "compression": {
                "layers": job_settings.layers(layers),
                "structure": {
                    "depth": job_settings.number_or_auto("--depth", depth),
                    "gate_sites": job_settings.number_or_auto("--gate-sites", gate_sites),
                    "activation": activation,
                },
                "target": job_settings.target(target),
                "gate_bits": gate_bits,
            },
            "fit": {"steps": steps, "learning_rate": fit_lr},
            "fine_tune": {
                "epochs": epochs,
                "natural_epochs": natural_epochs,
                "teacher_epochs": teacher_epochs,
                "learning_rate": lr,
                "gate_learning_rate": job_settings.number_or_auto("--gate-lr", gate_lr),
                "schedule": schedule,
                "batch_size": batch_size,
                "accumulate": accumulate,
                "dense": dense,
                "precision": precision,
                "distill": distill,
                "temperature": temperature,
            },
            "search": {"max_trials": max_trials, "max_minutes": max_minutes},
            "image": {"resize": job_settings.size("--resize", resize)},
            "normalize": job_settings.normalization(mean, std),
            "augment": {"crop": crop, "flip": flip or None, "rotate": rotate, "stretch": stretch},
            "exports": None if exports is None else job_settings.listed(exports),
            "seed": seed,
            "name": name,
        }
    )
    if arch_config is not None:  # null is a value there
        settings["architecture_config"] = job_settings.json_object("--arch-config", arch_config)
    request = Request(checkpoint, data, settings, out)
    with server.connect(url, api_key) as client:
        if detach:
            with display() as shown:
                job = submit(client, request, shown)
            output.result(job.id)
        else:
            job = compress_and_wait(client, request)
            show_report(client.jobs.report(job.id))

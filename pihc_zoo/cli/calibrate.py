"""``pihc calibrate``: unknown parameters from measurements."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..files import check_writable
from .arguments import add_device, assignment, load_model, number, number_or_text, positive, seed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc calibrate``."""
    parser.epilog = (
        "DATA has the columns x, t, u and optionally sigma, one line per reading. Several files are experiments that "
        "share their unknowns."
    )
    parser.add_argument("model", help="name, folder or Hub id of a model that takes the unknowns as inputs")
    parser.add_argument("data", nargs="+", metavar="DATA", help="CSV files of measurements, one per experiment")
    parser.add_argument(
        "--u0", nargs="+", metavar="U0", type=number_or_text,
        help="initial condition: a number, or an NPZ file with u0 (and x); one, or one per experiment",
    )  # fmt: skip
    parser.add_argument(
        "--unknown", nargs="+", required=True, metavar="NAME", help="parameters to find; u0 is a constant initial value"
    )
    parser.add_argument(
        "--known", nargs="+", default=[], metavar="NAME=VALUE", help="parameters that are known, e.g. phi=0.3"
    )
    parser.add_argument("--sigma", type=number, help="standard deviation of readings whose file has no such column")
    parser.add_argument("--level", type=number, default=0.9, help="probability of the intervals (default 0.9)")
    parser.add_argument(
        "--intervals", choices=("auto", "covariance", "profile"), default="auto",
        help="how they are found (default: by profile likelihood where the covariance is not good enough)",
    )  # fmt: skip
    polish = parser.add_mutually_exclusive_group()
    polish.add_argument("--polish", action="store_true", default=None, help="go on with the classical solver")
    polish.add_argument(
        "--no-polish",
        dest="polish",
        action="store_false",
        help="never do (default: where the surrogate's error matters)",
    )
    parser.add_argument("--starts", type=positive, default=16, metavar="N", help="starts in the range (default 16)")
    parser.add_argument("--sample", type=positive, metavar="DRAWS", help="draws of the posterior, per walker (emcee)")
    parser.add_argument("--walkers", type=positive, default=32, metavar="N", help="walkers (default 32)")
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument("--plot", type=Path, metavar="PNG", help="figure of the fit (.png, .pdf or .svg)")
    parser.add_argument("--plot-posterior", type=Path, metavar="PNG", help="figure of the posterior, with --sample")
    parser.add_argument("--output", type=Path, metavar="JSON", help="file for values, intervals and messages")
    parser.add_argument("--draws", type=Path, metavar="NPZ", help="file for the draws, with --sample")
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="CPU threads (default 1)")
    add_device(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress of --sample")


def run(options: argparse.Namespace) -> int:
    """Fits, prints the outcome and writes what is asked for; nothing is written where the fit fails."""
    _check_outputs(options)
    from ..calibration.calibrate import calibrate
    from ..data.table import read_table

    known = dict(assignment(text, "--known", "phi=0.3") for text in options.known)
    experiments: list[dict[str, Any]] = []
    for path in options.data:
        columns: dict[str, Any] = dict(read_table(path))
        if options.sigma is not None:
            if "sigma" in columns:
                raise ValueError(f"{path} has a column sigma, so --sigma {options.sigma:g} is not needed; leave it out")
            columns["sigma"] = options.sigma
        experiments.append(columns)
    _add_initial(experiments, options.u0 or [])
    model = load_model(options)
    import torch

    torch.set_num_threads(options.threads)
    fit = calibrate(
        model, experiments if len(experiments) > 1 else experiments[0], options.unknown, known, level=options.level,
        intervals=options.intervals, polish=options.polish, starts=options.starts, seed=options.seed,
    )  # fmt: skip
    posterior = None
    if options.sample is not None:
        posterior = fit.sample(options.sample, options.walkers, seed=options.seed, quiet=options.quiet)
    print(fit.summary())
    if posterior is not None:
        print(posterior.summary())
    written = []
    for path, write in (
        (options.plot, fit.plot),
        (options.output, fit.save),
        (options.plot_posterior, posterior and posterior.plot),
        (options.draws, posterior and posterior.save),
    ):
        if path is not None and write is not None:
            write(path)
            written.append(str(path))
    if written:
        print("written to " + " and ".join(written))
    return 0


def _check_outputs(options: argparse.Namespace) -> None:
    """Raises ValueError for what could not be written, before anything is computed."""
    for path in (options.plot, options.plot_posterior):
        if path is not None:
            from ..plotting.style import check_suffix, require_matplotlib

            check_writable(check_suffix(path))
            require_matplotlib()
    for path in (options.output, options.draws):
        if path is not None:
            check_writable(path)
    if options.draws is not None and options.draws.suffix != ".npz":
        raise ValueError(f"--draws expects a name that ends in .npz, got {str(options.draws)!r}")
    for name in ("draws", "plot_posterior"):
        if getattr(options, name) is not None and options.sample is None:
            raise ValueError(f"--{name.replace('_', '-')} needs --sample DRAWS")


def _add_initial(experiments: list[dict[str, Any]], given: list[float | str]) -> None:
    """The initial conditions of the experiments, one for all or one each."""
    if not given:
        return
    if len(given) not in (1, len(experiments)):
        raise ValueError(f"--u0 has {len(given)} values for {len(experiments)} experiments; give one, or one each")
    for columns, u0 in zip(experiments, given * (len(experiments) if len(given) == 1 else 1), strict=True):
        if isinstance(u0, float):
            columns["u0"] = u0
            continue
        from ..data import read_arrays

        arrays = read_arrays(u0)
        if "u0" not in arrays:
            raise ValueError(f"{u0!r} has no array u0 (it has: {', '.join(sorted(arrays)) or 'none'})")
        columns["u0"] = arrays["u0"]
        if "x" in arrays:
            columns["input_x"] = arrays["x"]

"""Draws from the posterior of a fit by emcee's ensemble sampler, the surrogate being the likelihood.

    log p(z | data) = −χ²(z)/2           where σ was given,
                      −(m/2) log χ²(z)   where not: σ integrated out under Jeffreys' prior 1/σ

with a prior that is uniform over the model's range, in the logarithm where a parameter is logarithmic. Walkers are
rows of a batch. The readings are those of the checked polynomial of `emulator` where it holds, of the surrogate
itself elsewhere, and of the surrogate everywhere where no polynomial is accurate enough.

Source: J. Goodman, J. Weare, "Ensemble samplers with affine invariance" (2010); D. Foreman-Mackey et al., "emcee"
(2013), doi:10.1086/670067.
"""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import save_npz
from ..progress import progress
from ..text import number, percent
from .emulator import TOLERANCE, Emulator, emulate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .fit import Fit

_WIDTH = 6.0  # standard errors, of the emulator's box to begin with
_REACH = 16.0  # rise of χ² that it serves: e⁻⁸ of the likelihood
_LONG_ENOUGH = 50  # autocorrelation times


@dataclasses.dataclass(repr=False)
class Posterior:
    """Draws from the posterior.

    Attributes:
        chain: by name of unknown, (draw, walker) values in its own unit, after the burn-in.
        log_probability: (draw, walker).
        acceptance: mean share of accepted moves; .2 to .5 is usual.
        autocorrelation_time: by name, in draws; NaN where the chain is too short to tell.
        likelihood: in words, what the likelihood was made of and how accurate that is.
        emulator_error: largest difference of emulated readings from the surrogate's at fresh points, in sigma;
            0 where the surrogate itself was the likelihood.
        num_solves: by the surrogate.
        messages: why not to rely on the draws; [] if there is no such reason.
        seconds: it took.
    """

    chain: dict[str, np.ndarray]
    log_probability: np.ndarray
    acceptance: float
    autocorrelation_time: dict[str, float]
    likelihood: str
    emulator_error: float
    num_solves: int
    messages: list[str]
    seconds: float
    fit: Fit

    def __repr__(self) -> str:
        draws, walkers = self.log_probability.shape
        return f"Posterior({', '.join(self.chain)}: {draws} draws of {walkers} walkers)"

    @property
    def draws(self) -> dict[str, np.ndarray]:
        """(draw · walker,) values by name."""
        return {name: values.reshape(-1) for name, values in self.chain.items()}

    def interval(self, level: float | None = None) -> dict[str, tuple[float, float]]:
        """Equal-tailed intervals by name; default: at the level of the fit."""
        level = self.fit.level if level is None else level
        tails = 0.5 - level / 2, 0.5 + level / 2
        ends = {name: np.quantile(values, tails) for name, values in self.draws.items()}
        return {name: (float(low), float(high)) for name, (low, high) in ends.items()}

    def summary(self) -> str:
        """A few lines for people."""
        draws, walkers = self.log_probability.shape
        lines = [f"posterior: {draws} draws of {walkers} walkers in {self.seconds:.1f} s, {self.likelihood}"]
        for name, (low, high) in self.interval().items():
            median = number(np.median(self.chain[name]), 4)
            lines.append(
                f"  {name} = {median} [{number(low, 4)}, {number(high, 4)}] ({percent(self.fit.level, digits=3)})"
            )
        times = [value for value in self.autocorrelation_time.values() if np.isfinite(value)]
        lines.append(
            f"accepted {percent(self.acceptance)}, autocorrelation time {number(max(times), 2) if times else '–'}"
        )
        return "\n".join(lines + [f"  - {message}" for message in self.messages])

    def save(self, path: str | os.PathLike) -> Path:
        """Writes an NPZ, atomically: (draw, walker) values by name of unknown, and log_probability."""
        return save_npz(path, {**self.chain, "log_probability": self.log_probability}, compress=False)

    def plot(self, path: str | os.PathLike | None = None) -> Figure:
        """Draws the marginals and the joint density of every pair; see `calibration.plot.plot_posterior`."""
        from .plot import plot_posterior

        return plot_posterior(self, path)


def sample_posterior(
    fit: Fit,
    draws: int = 2000,
    walkers: int = 32,
    *,
    burn_in: int | None = None,
    emulate_readings: bool = True,
    seed: int = 0,
    quiet: bool = True,
) -> Posterior:
    """Draws from the posterior of a fit.

    Args:
        fit: of `calibrate`.
        draws: of every walker, after the burn-in.
        walkers: even, at least twice the number of unknowns.
        burn_in: draws that are thrown away first; default a quarter as many.
        emulate_readings: False: every likelihood is a solve of the surrogate.
        seed: of the chain.
        quiet: show no progress.

    Raises:
        ValueError: emcee is not installed, or too few walkers or draws.
    """
    try:
        import emcee
    except ImportError:
        raise ValueError('the posterior needs emcee; install it with: pip install "pihc_zoo[posterior]"') from None
    begin = time.perf_counter()
    unknowns, count = fit.readings.unknowns, len(fit.z)
    if walkers < 2 * count or walkers % 2:
        raise ValueError(f"walkers must be even and at least {max(2, 2 * count)}, got {walkers}")
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    likelihood = _Likelihood(fit, emulate_readings, seed)
    rng = np.random.default_rng(seed)
    start = _start(fit, walkers, rng)
    sampler = emcee.EnsembleSampler(walkers, count, likelihood, vectorize=True)
    state = np.random.RandomState(seed).get_state()
    burn_in = draws // 4 if burn_in is None else burn_in
    steps = sampler.sample(
        emcee.State(start, random_state=state), iterations=burn_in + draws, skip_initial_state_check=True
    )
    for _ in progress(steps, "posterior", total=burn_in + draws, quiet=quiet):
        pass
    z, log_probability = sampler.get_chain(discard=burn_in), sampler.get_log_prob(discard=burn_in)
    times = _autocorrelation(emcee, z)
    messages = [] if fit.is_trustworthy else ["the fit is not trustworthy: " + fit.messages[0]]
    longest = float(np.nanmax(times)) if np.isfinite(times).any() else np.nan
    if not draws >= _LONG_ENOUGH * longest:
        asked = "more draws" if np.isnan(longest) else f"at least {int(np.ceil(_LONG_ENOUGH * longest))} draws"
        messages.append(f"the chain is short against its memory; take {asked}")
    if fit.is_polished:
        messages.append(
            "the likelihood is the surrogate's, shifted by its difference from the classical solver at the fit"
        )
    return Posterior(
        chain={own.name: own.value(z[:, :, k]) for k, own in enumerate(unknowns)},
        log_probability=log_probability,
        acceptance=float(np.mean(sampler.acceptance_fraction)),
        autocorrelation_time={own.name: float(times[k]) for k, own in enumerate(unknowns)},
        likelihood=likelihood.words(),
        emulator_error=0.0 if likelihood.emulator is None else likelihood.emulator.error,
        num_solves=likelihood.num_solves,
        messages=messages,
        seconds=time.perf_counter() - begin,
        fit=fit,
    )


class _Likelihood:
    """(walkers, p) scaled unknowns ↦ (walkers,) log posterior."""

    def __init__(self, fit: Fit, emulate_readings: bool, seed: int):
        self.fit, self.num_solves, self.asked, self.outside = fit, 0, 0, 0
        self.target = np.concatenate([own.u for own in fit.experiments])
        self.shift = fit.fitted - fit.readings.values(fit.z[None])[0] if fit.is_polished else 0.0
        self.emulator: Emulator | None = None
        self.refused = ""
        if emulate_readings:
            found = emulate(
                lambda z: fit.readings.values(z) + self.shift, fit.z, fit.scaled_covariance, self.target, 1 / fit.sigma,
                _WIDTH, _REACH, seed=seed,
            )  # fmt: skip
            self.num_solves = found.num_solves
            if found.error <= TOLERANCE:
                self.emulator = found
            else:
                self.refused = f" (a polynomial would err by {number(found.error, 2)} sigma)"

    def __call__(self, z: np.ndarray) -> np.ndarray:
        result = np.full(len(z), -np.inf)
        inside = (np.abs(z) <= 1).all(axis=1)
        self.asked += int(inside.sum())
        held = np.zeros_like(inside) if self.emulator is None else inside & self.emulator.holds(z)
        if self.emulator is not None and held.any():
            result[held] = self._log(self.emulator.values(z[held]))
        rest = inside & ~held
        if rest.any():
            self.outside += int(rest.sum())
            self.num_solves += int(rest.sum())
            result[rest] = self._log(self.fit.readings.values(z[rest]) + self.shift)
        return result

    def _log(self, values: np.ndarray) -> np.ndarray:
        chi2 = (((values - self.target) / self.fit.sigma) ** 2).sum(axis=1)
        log = -0.5 * chi2 if self.fit.has_sigma else -0.5 * len(self.target) * np.log(chi2)
        return np.where(np.isfinite(chi2), log, -np.inf)

    def words(self) -> str:
        """What it was made of."""
        if self.emulator is None:
            return f"every likelihood a solve of the surrogate{self.refused}: {self.num_solves} solves"
        own = self.emulator
        share = f", {self.outside} of {self.asked} likelihoods outside it by the surrogate" if self.outside else ""
        return (
            f"the surrogate's readings as a polynomial of degree {own.degree} from {own.num_solves} solves, off by at "
            f"most {number(own.error, 2)} sigma at fresh points{share}"
        )


def _start(fit: Fit, walkers: int, rng: np.random.Generator) -> np.ndarray:
    """Walkers around the optimum, as the covariance spreads them, inside the range."""
    size = np.sqrt(np.maximum(np.diag(fit.scaled_covariance), 1e-10))
    shrink = min(1.0, 0.3 / size.max())
    covariance = fit.scaled_covariance * shrink**2 + np.diag((1e-3 * np.minimum(size, 1)) ** 2 + 1e-12)
    start = rng.multivariate_normal(fit.z, covariance, walkers, method="eigh")
    start = np.where(start > 1, 2 - start, np.where(start < -1, -2 - start, start))  # reflected at the bounds
    return np.clip(start, -1 + 1e-9, 1 - 1e-9)


def _autocorrelation(emcee: Any, z: np.ndarray) -> np.ndarray:
    """(p,) integrated autocorrelation times in draws; NaN where the chain is too short."""
    if len(z) < 10:
        return np.full(z.shape[2], np.nan)
    return np.asarray(emcee.autocorr.integrated_time(z, tol=0, quiet=True))
